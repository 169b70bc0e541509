//! What the conventions for SDKs call a component: an exporter, a processor.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;

/// The type and a number from 0 for each type, as the conventions recommend.
pub(crate) fn numbered_name(component_type: &str) -> String {
    static NUMBERS: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

    let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    let numbers = numbers.get_or_insert_default();
    let next = numbers.entry(component_type.to_owned()).or_default();
    let name = format!("{component_type}/{next}");
    *next += 1;
    name
}

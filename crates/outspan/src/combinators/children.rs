//! What combinators with several children share.

use futures_util::future::join_all;

use crate::Cause;
use crate::Deadline;
use crate::Drained;
use crate::Error;
use crate::ErrorKind;
use crate::Result;
use crate::guard::GRACE;
use crate::guard::run_drain;

/// Flushes or shuts down every child at the same time, and puts together what they say.
///
/// A child that fails or panics keeps none of the others from ending, and from telling what they lost: then that is the
/// answer, and the failure is one of its causes and a line in the log. Causes name the child.
///
/// # Errors
///
/// Those of all children that failed, in one.
pub(super) async fn drain_all<'a, F>(
    drains: impl IntoIterator<Item = (&'a str, F)>,
    call: &'static str,
    until: Deadline,
) -> Result<Drained>
where
    F: Future<Output = Result<Drained>>,
{
    let drains = drains
        .into_iter()
        .map(|(name, drain)| async move { (name, run_drain(until, GRACE, call, drain).await) });
    let mut total = Drained::default();
    let mut errors = Vec::new();
    for (name, drained) in join_all(drains).await {
        match drained {
            Ok(mut drained) => {
                let causes = drained.take_causes();
                total.merge(&drained);
                for cause in causes {
                    total.add_cause(cause.at_least_at(name));
                }
            }
            Err(error) => errors.push((name, error)),
        }
    }
    let Some((_, first)) = errors.first() else {
        return Ok(total);
    };
    if !total.is_complete() {
        for (name, error) in errors {
            tracing::warn!(target: "outspan", "the {call} of {name} failed: {}", error.chain());
            total.add_cause(Cause::new(error).at(name));
        }
        return Ok(total);
    }
    let kind = first.kind();
    let words: Vec<_> = errors
        .iter()
        .map(|(name, error)| format!("{name}: {}", error.chain()))
        .collect();
    Err(Error::new(kind, words.join("; ")).with_context("call", call))
}

/// Says that a list of children is empty, too long, or has a name twice.
///
/// # Errors
///
/// [`Config`](ErrorKind::Config).
pub(super) fn check_names<'a>(
    combinator: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    /// Each child costs some work a batch; more than this is a mistake.
    const CHILDREN_MAX: usize = 64;

    let names: Vec<_> = names.into_iter().collect();
    if names.is_empty() || names.len() > CHILDREN_MAX {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "a {combinator} has {} children: give it 1 to {CHILDREN_MAX}",
                names.len()
            ),
        ));
    }
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            return Err(Error::config(format!(
                "two children of a {combinator} are called \"{name}\""
            )));
        }
    }
    Ok(())
}

//! Reads Thrift's binary protocol into a tree, by Thrift's own description of it ("Thrift Binary protocol encoding").

use std::collections::BTreeMap;

/// Any value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i64),
    Double(f64),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Struct(BTreeMap<i16, Self>),
}

impl Value {
    /// A field of a struct.
    pub(crate) fn field(&self, id: i16) -> &Self {
        self.find(id)
            .unwrap_or_else(|| panic!("no field {id} in {self:?}"))
    }

    pub(crate) fn find(&self, id: i16) -> Option<&Self> {
        match self {
            Self::Struct(fields) => fields.get(&id),
            other => panic!("no struct: {other:?}"),
        }
    }

    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(values) => values,
            other => panic!("no list: {other:?}"),
        }
    }

    pub(crate) fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            other => panic!("no integer: {other:?}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            other => panic!("no text: {other:?}"),
        }
    }
}

/// Reads one struct, to the last byte.
pub(crate) fn read_struct(bytes: &[u8]) -> Result<Value, String> {
    let mut reader = Reader(bytes);
    let value = reader.value(12)?;
    match reader.0 {
        [] => Ok(value),
        left => Err(format!("{} bytes are left", left.len())),
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, left) = self.0.split_first_chunk().ok_or("it is cut")?;
        self.0 = left;
        Ok(*taken)
    }

    fn length(&mut self) -> Result<usize, String> {
        let length = i32::from_be_bytes(self.take()?);
        usize::try_from(length).map_err(|_| "a negative length".to_owned())
    }

    fn value(&mut self, kind: u8) -> Result<Value, String> {
        Ok(match kind {
            2 => Value::Bool(self.take::<1>()? == [1]),
            3 => Value::Integer(i8::from_be_bytes(self.take()?).into()),
            4 => Value::Double(f64::from_be_bytes(self.take()?)),
            6 => Value::Integer(i16::from_be_bytes(self.take()?).into()),
            8 => Value::Integer(i32::from_be_bytes(self.take()?).into()),
            10 => Value::Integer(i64::from_be_bytes(self.take()?)),
            11 => {
                let length = self.length()?;
                let (bytes, left) = self.0.split_at_checked(length).ok_or("it is cut")?;
                self.0 = left;
                Value::Bytes(bytes.to_vec())
            }
            12 => Value::Struct(self.fields()?),
            15 => {
                let [kind] = self.take()?;
                let length = self.length()?;
                let values = (0..length).map(|_| self.value(kind));
                Value::List(values.collect::<Result<_, _>>()?)
            }
            other => return Err(format!("unknown type {other}")),
        })
    }

    fn fields(&mut self) -> Result<BTreeMap<i16, Value>, String> {
        let mut fields = BTreeMap::new();
        loop {
            let [kind] = self.take()?;
            if kind == 0 {
                return Ok(fields);
            }
            let id = i16::from_be_bytes(self.take()?);
            fields.insert(id, self.value(kind)?);
        }
    }
}

//! Reads Thrift's binary protocol into a tree, with Apache's own crate.

use std::collections::BTreeMap;

use thrift::protocol::TBinaryInputProtocol;
use thrift::protocol::TInputProtocol;
use thrift::protocol::TType;

/// Any value that Jaeger's messages have.
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
        let Self::Struct(fields) = self else {
            panic!("no struct: {self:?}");
        };
        let field = fields.get(&id);
        field.unwrap_or_else(|| panic!("no field {id} in {self:?}"))
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
pub(crate) fn read_struct(mut bytes: &[u8]) -> Result<Value, String> {
    let mut input = TBinaryInputProtocol::new(&mut bytes, true);
    let value = value(&mut input, TType::Struct).map_err(|error| error.to_string())?;
    match bytes {
        [] => Ok(value),
        left => Err(format!("{} bytes are left", left.len())),
    }
}

fn value(input: &mut impl TInputProtocol, kind: TType) -> thrift::Result<Value> {
    Ok(match kind {
        TType::Bool => Value::Bool(input.read_bool()?),
        TType::I08 => Value::Integer(input.read_i8()?.into()),
        TType::I16 => Value::Integer(input.read_i16()?.into()),
        TType::I32 => Value::Integer(input.read_i32()?.into()),
        TType::I64 => Value::Integer(input.read_i64()?),
        TType::Double => Value::Double(input.read_double()?),
        TType::String => Value::Bytes(input.read_bytes()?),
        TType::List => {
            let list = input.read_list_begin()?;
            let values = (0..list.size).map(|_| value(input, list.element_type));
            let values = values.collect::<thrift::Result<_>>()?;
            input.read_list_end()?;
            Value::List(values)
        }
        TType::Struct => Value::Struct(fields(input)?),
        other => panic!("Jaeger has no {other:?}"),
    })
}

fn fields(input: &mut impl TInputProtocol) -> thrift::Result<BTreeMap<i16, Value>> {
    let mut fields = BTreeMap::new();
    input.read_struct_begin()?;
    loop {
        let field = input.read_field_begin()?;
        let Some(id) = field.id.filter(|_| field.field_type != TType::Stop) else {
            input.read_struct_end()?;
            return Ok(fields);
        };
        fields.insert(id, value(input, field.field_type)?);
        input.read_field_end()?;
    }
}

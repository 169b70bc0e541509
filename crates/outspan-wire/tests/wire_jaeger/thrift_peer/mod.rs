//! The structs of `jaeger.thrift` over the `thrift` crate, in the way Thrift's compiler writes them for Rust.

// Each program uses its own part of this module.
#![allow(dead_code)]

use thrift::protocol::TBinaryInputProtocol;
use thrift::protocol::TBinaryOutputProtocol;
use thrift::protocol::TCompactInputProtocol;
use thrift::protocol::TCompactOutputProtocol;
use thrift::protocol::TFieldIdentifier;
use thrift::protocol::TInputProtocol;
use thrift::protocol::TListIdentifier;
use thrift::protocol::TMessageIdentifier;
use thrift::protocol::TMessageType;
use thrift::protocol::TOutputProtocol;
use thrift::protocol::TStructIdentifier;
use thrift::protocol::TType;

/// Which protocol to speak.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Binary,
    Compact,
}

/// Calls `read` with a protocol over the bytes, and says how many are left.
pub(crate) fn read_with<T>(
    form: Form,
    bytes: &[u8],
    read: impl FnOnce(&mut dyn TInputProtocol) -> thrift::Result<T>,
) -> thrift::Result<(T, usize)> {
    let mut rest = bytes;
    let value = match form {
        Form::Binary => read(&mut TBinaryInputProtocol::new(&mut rest, true))?,
        Form::Compact => read(&mut TCompactInputProtocol::new(&mut rest))?,
    };
    Ok((value, rest.len()))
}

/// Calls `write` with a protocol, and returns what it wrote.
pub(crate) fn write_with(
    form: Form,
    write: impl FnOnce(&mut dyn TOutputProtocol) -> thrift::Result<()>,
) -> thrift::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match form {
        Form::Binary => write(&mut TBinaryOutputProtocol::new(&mut bytes, true))?,
        Form::Compact => write(&mut TCompactOutputProtocol::new(&mut bytes))?,
    }
    Ok(bytes)
}

/// Writes the message `emitBatch` with its arguments.
pub(crate) fn emit_batch(
    output: &mut dyn TOutputProtocol,
    message_type: TMessageType,
    batch: &Batch,
) -> thrift::Result<()> {
    output.write_message_begin(&TMessageIdentifier::new("emitBatch", message_type, 7))?;
    output.write_struct_begin(&TStructIdentifier::new("AgentEmitBatchArgs"))?;
    output.write_field_begin(&TFieldIdentifier::new("batch", TType::Struct, 1))?;
    batch.write(output)?;
    output.write_field_end()?;
    output.write_field_stop()?;
    output.write_struct_end()?;
    output.write_message_end()
}

/// Reads the message `emitBatch`: its name, and the batch.
pub(crate) fn read_emit_batch(input: &mut dyn TInputProtocol) -> thrift::Result<(String, Batch)> {
    let message = input.read_message_begin()?;
    assert_eq!(message.message_type, TMessageType::OneWay);
    input.read_struct_begin()?;
    let field = input.read_field_begin()?;
    assert_eq!((field.id, field.field_type), (Some(1), TType::Struct));
    let batch = Batch::read(input)?;
    input.read_field_end()?;
    assert_eq!(input.read_field_begin()?.field_type, TType::Stop);
    input.read_struct_end()?;
    input.read_message_end()?;
    Ok((message.name, batch))
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SpanRef {
    pub(crate) ref_type: i32,
    pub(crate) trace_id_low: i64,
    pub(crate) trace_id_high: i64,
    pub(crate) span_id: i64,
}

impl SpanRef {
    pub(crate) fn write(&self, output: &mut dyn TOutputProtocol) -> thrift::Result<()> {
        output.write_struct_begin(&TStructIdentifier::new("SpanRef"))?;
        output.write_field_begin(&TFieldIdentifier::new("ref_type", TType::I32, 1))?;
        output.write_i32(self.ref_type)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("trace_id_low", TType::I64, 2))?;
        output.write_i64(self.trace_id_low)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("trace_id_high", TType::I64, 3))?;
        output.write_i64(self.trace_id_high)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("span_id", TType::I64, 4))?;
        output.write_i64(self.span_id)?;
        output.write_field_end()?;
        output.write_field_stop()?;
        output.write_struct_end()
    }

    pub(crate) fn read(input: &mut dyn TInputProtocol) -> thrift::Result<Self> {
        input.read_struct_begin()?;
        let mut found = Self::default();
        loop {
            let field = input.read_field_begin()?;
            if field.field_type == TType::Stop {
                break;
            }
            match field.id {
                Some(1) => found.ref_type = input.read_i32()?,
                Some(2) => found.trace_id_low = input.read_i64()?,
                Some(3) => found.trace_id_high = input.read_i64()?,
                Some(4) => found.span_id = input.read_i64()?,
                _ => input.skip(field.field_type)?,
            }
            input.read_field_end()?;
        }
        input.read_struct_end()?;
        Ok(found)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tag {
    pub(crate) key: String,
    pub(crate) v_type: i32,
    pub(crate) v_str: Option<String>,
    pub(crate) v_double: Option<f64>,
    pub(crate) v_bool: Option<bool>,
    pub(crate) v_long: Option<i64>,
    pub(crate) v_binary: Option<Vec<u8>>,
}

impl Tag {
    pub(crate) fn write(&self, output: &mut dyn TOutputProtocol) -> thrift::Result<()> {
        output.write_struct_begin(&TStructIdentifier::new("Tag"))?;
        output.write_field_begin(&TFieldIdentifier::new("key", TType::String, 1))?;
        output.write_string(&self.key)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("v_type", TType::I32, 2))?;
        output.write_i32(self.v_type)?;
        output.write_field_end()?;
        if let Some(value) = &self.v_str {
            output.write_field_begin(&TFieldIdentifier::new("v_str", TType::String, 3))?;
            output.write_string(value)?;
            output.write_field_end()?;
        }
        if let Some(value) = &self.v_double {
            output.write_field_begin(&TFieldIdentifier::new("v_double", TType::Double, 4))?;
            output.write_double(*value)?;
            output.write_field_end()?;
        }
        if let Some(value) = &self.v_bool {
            output.write_field_begin(&TFieldIdentifier::new("v_bool", TType::Bool, 5))?;
            output.write_bool(*value)?;
            output.write_field_end()?;
        }
        if let Some(value) = &self.v_long {
            output.write_field_begin(&TFieldIdentifier::new("v_long", TType::I64, 6))?;
            output.write_i64(*value)?;
            output.write_field_end()?;
        }
        if let Some(value) = &self.v_binary {
            output.write_field_begin(&TFieldIdentifier::new("v_binary", TType::String, 7))?;
            output.write_bytes(value)?;
            output.write_field_end()?;
        }
        output.write_field_stop()?;
        output.write_struct_end()
    }

    pub(crate) fn read(input: &mut dyn TInputProtocol) -> thrift::Result<Self> {
        input.read_struct_begin()?;
        let mut found = Self::default();
        loop {
            let field = input.read_field_begin()?;
            if field.field_type == TType::Stop {
                break;
            }
            match field.id {
                Some(1) => found.key = input.read_string()?,
                Some(2) => found.v_type = input.read_i32()?,
                Some(3) => found.v_str = Some(input.read_string()?),
                Some(4) => found.v_double = Some(input.read_double()?),
                Some(5) => found.v_bool = Some(input.read_bool()?),
                Some(6) => found.v_long = Some(input.read_i64()?),
                Some(7) => found.v_binary = Some(input.read_bytes()?),
                _ => input.skip(field.field_type)?,
            }
            input.read_field_end()?;
        }
        input.read_struct_end()?;
        Ok(found)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Log {
    pub(crate) timestamp: i64,
    pub(crate) fields: Vec<Tag>,
}

impl Log {
    pub(crate) fn write(&self, output: &mut dyn TOutputProtocol) -> thrift::Result<()> {
        output.write_struct_begin(&TStructIdentifier::new("Log"))?;
        output.write_field_begin(&TFieldIdentifier::new("timestamp", TType::I64, 1))?;
        output.write_i64(self.timestamp)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("fields", TType::List, 2))?;
        output.write_list_begin(&TListIdentifier::new(
            TType::Struct,
            self.fields.len() as i32,
        ))?;
        for item in &self.fields {
            item.write(output)?;
        }
        output.write_list_end()?;
        output.write_field_end()?;
        output.write_field_stop()?;
        output.write_struct_end()
    }

    pub(crate) fn read(input: &mut dyn TInputProtocol) -> thrift::Result<Self> {
        input.read_struct_begin()?;
        let mut found = Self::default();
        loop {
            let field = input.read_field_begin()?;
            if field.field_type == TType::Stop {
                break;
            }
            match field.id {
                Some(1) => found.timestamp = input.read_i64()?,
                Some(2) => {
                    found.fields = {
                        let list = input.read_list_begin()?;
                        let mut items = Vec::with_capacity(list.size as usize);
                        for _ in 0..list.size {
                            items.push(Tag::read(input)?);
                        }
                        input.read_list_end()?;
                        items
                    }
                }
                _ => input.skip(field.field_type)?,
            }
            input.read_field_end()?;
        }
        input.read_struct_end()?;
        Ok(found)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Span {
    pub(crate) trace_id_low: i64,
    pub(crate) trace_id_high: i64,
    pub(crate) span_id: i64,
    pub(crate) parent_span_id: i64,
    pub(crate) operation_name: String,
    pub(crate) references: Option<Vec<SpanRef>>,
    pub(crate) flags: i32,
    pub(crate) start_time: i64,
    pub(crate) duration: i64,
    pub(crate) tags: Option<Vec<Tag>>,
    pub(crate) logs: Option<Vec<Log>>,
}

impl Span {
    pub(crate) fn write(&self, output: &mut dyn TOutputProtocol) -> thrift::Result<()> {
        output.write_struct_begin(&TStructIdentifier::new("Span"))?;
        output.write_field_begin(&TFieldIdentifier::new("trace_id_low", TType::I64, 1))?;
        output.write_i64(self.trace_id_low)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("trace_id_high", TType::I64, 2))?;
        output.write_i64(self.trace_id_high)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("span_id", TType::I64, 3))?;
        output.write_i64(self.span_id)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("parent_span_id", TType::I64, 4))?;
        output.write_i64(self.parent_span_id)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("operation_name", TType::String, 5))?;
        output.write_string(&self.operation_name)?;
        output.write_field_end()?;
        if let Some(value) = &self.references {
            output.write_field_begin(&TFieldIdentifier::new("references", TType::List, 6))?;
            output.write_list_begin(&TListIdentifier::new(TType::Struct, value.len() as i32))?;
            for item in value {
                item.write(output)?;
            }
            output.write_list_end()?;
            output.write_field_end()?;
        }
        output.write_field_begin(&TFieldIdentifier::new("flags", TType::I32, 7))?;
        output.write_i32(self.flags)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("start_time", TType::I64, 8))?;
        output.write_i64(self.start_time)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("duration", TType::I64, 9))?;
        output.write_i64(self.duration)?;
        output.write_field_end()?;
        if let Some(value) = &self.tags {
            output.write_field_begin(&TFieldIdentifier::new("tags", TType::List, 10))?;
            output.write_list_begin(&TListIdentifier::new(TType::Struct, value.len() as i32))?;
            for item in value {
                item.write(output)?;
            }
            output.write_list_end()?;
            output.write_field_end()?;
        }
        if let Some(value) = &self.logs {
            output.write_field_begin(&TFieldIdentifier::new("logs", TType::List, 11))?;
            output.write_list_begin(&TListIdentifier::new(TType::Struct, value.len() as i32))?;
            for item in value {
                item.write(output)?;
            }
            output.write_list_end()?;
            output.write_field_end()?;
        }
        output.write_field_stop()?;
        output.write_struct_end()
    }

    pub(crate) fn read(input: &mut dyn TInputProtocol) -> thrift::Result<Self> {
        input.read_struct_begin()?;
        let mut found = Self::default();
        loop {
            let field = input.read_field_begin()?;
            if field.field_type == TType::Stop {
                break;
            }
            match field.id {
                Some(1) => found.trace_id_low = input.read_i64()?,
                Some(2) => found.trace_id_high = input.read_i64()?,
                Some(3) => found.span_id = input.read_i64()?,
                Some(4) => found.parent_span_id = input.read_i64()?,
                Some(5) => found.operation_name = input.read_string()?,
                Some(6) => {
                    found.references = Some({
                        let list = input.read_list_begin()?;
                        let mut items = Vec::with_capacity(list.size as usize);
                        for _ in 0..list.size {
                            items.push(SpanRef::read(input)?);
                        }
                        input.read_list_end()?;
                        items
                    })
                }
                Some(7) => found.flags = input.read_i32()?,
                Some(8) => found.start_time = input.read_i64()?,
                Some(9) => found.duration = input.read_i64()?,
                Some(10) => {
                    found.tags = Some({
                        let list = input.read_list_begin()?;
                        let mut items = Vec::with_capacity(list.size as usize);
                        for _ in 0..list.size {
                            items.push(Tag::read(input)?);
                        }
                        input.read_list_end()?;
                        items
                    })
                }
                Some(11) => {
                    found.logs = Some({
                        let list = input.read_list_begin()?;
                        let mut items = Vec::with_capacity(list.size as usize);
                        for _ in 0..list.size {
                            items.push(Log::read(input)?);
                        }
                        input.read_list_end()?;
                        items
                    })
                }
                _ => input.skip(field.field_type)?,
            }
            input.read_field_end()?;
        }
        input.read_struct_end()?;
        Ok(found)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) service_name: String,
    pub(crate) tags: Option<Vec<Tag>>,
}

impl Process {
    pub(crate) fn write(&self, output: &mut dyn TOutputProtocol) -> thrift::Result<()> {
        output.write_struct_begin(&TStructIdentifier::new("Process"))?;
        output.write_field_begin(&TFieldIdentifier::new("service_name", TType::String, 1))?;
        output.write_string(&self.service_name)?;
        output.write_field_end()?;
        if let Some(value) = &self.tags {
            output.write_field_begin(&TFieldIdentifier::new("tags", TType::List, 2))?;
            output.write_list_begin(&TListIdentifier::new(TType::Struct, value.len() as i32))?;
            for item in value {
                item.write(output)?;
            }
            output.write_list_end()?;
            output.write_field_end()?;
        }
        output.write_field_stop()?;
        output.write_struct_end()
    }

    pub(crate) fn read(input: &mut dyn TInputProtocol) -> thrift::Result<Self> {
        input.read_struct_begin()?;
        let mut found = Self::default();
        loop {
            let field = input.read_field_begin()?;
            if field.field_type == TType::Stop {
                break;
            }
            match field.id {
                Some(1) => found.service_name = input.read_string()?,
                Some(2) => {
                    found.tags = Some({
                        let list = input.read_list_begin()?;
                        let mut items = Vec::with_capacity(list.size as usize);
                        for _ in 0..list.size {
                            items.push(Tag::read(input)?);
                        }
                        input.read_list_end()?;
                        items
                    })
                }
                _ => input.skip(field.field_type)?,
            }
            input.read_field_end()?;
        }
        input.read_struct_end()?;
        Ok(found)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Batch {
    pub(crate) process: Process,
    pub(crate) spans: Vec<Span>,
}

impl Batch {
    pub(crate) fn write(&self, output: &mut dyn TOutputProtocol) -> thrift::Result<()> {
        output.write_struct_begin(&TStructIdentifier::new("Batch"))?;
        output.write_field_begin(&TFieldIdentifier::new("process", TType::Struct, 1))?;
        self.process.write(output)?;
        output.write_field_end()?;
        output.write_field_begin(&TFieldIdentifier::new("spans", TType::List, 2))?;
        output.write_list_begin(&TListIdentifier::new(
            TType::Struct,
            self.spans.len() as i32,
        ))?;
        for item in &self.spans {
            item.write(output)?;
        }
        output.write_list_end()?;
        output.write_field_end()?;
        output.write_field_stop()?;
        output.write_struct_end()
    }

    pub(crate) fn read(input: &mut dyn TInputProtocol) -> thrift::Result<Self> {
        input.read_struct_begin()?;
        let mut found = Self::default();
        loop {
            let field = input.read_field_begin()?;
            if field.field_type == TType::Stop {
                break;
            }
            match field.id {
                Some(1) => found.process = Process::read(input)?,
                Some(2) => {
                    found.spans = {
                        let list = input.read_list_begin()?;
                        let mut items = Vec::with_capacity(list.size as usize);
                        for _ in 0..list.size {
                            items.push(Span::read(input)?);
                        }
                        input.read_list_end()?;
                        items
                    }
                }
                _ => input.skip(field.field_type)?,
            }
            input.read_field_end()?;
        }
        input.read_struct_end()?;
        Ok(found)
    }
}

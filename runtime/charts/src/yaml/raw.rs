//! libyaml's scanner and emitter behind types that own what they use.

#![allow(unsafe_code, reason = "libyaml has a C interface")]

use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::slice;

#[allow(clippy::unsafe_removed_from_name, reason = "as libyaml itself is called where it is bound")]
use unsafe_libyaml as sys;

use super::YamlError;

/// What a text consists of.
pub(super) enum Event {
    StreamEnd,
    DocumentStart,
    DocumentEnd,
    Alias(String),
    Scalar { value: Vec<u8>, tag: Option<String>, plain: bool, anchor: Option<String> },
    SequenceStart(Option<String>),
    SequenceEnd,
    MappingStart(Option<String>),
    MappingEnd,
    Nothing,
}

/// Reads a text.
pub(super) struct Parser<'a> {
    /// In a box, for libyaml keeps pointers to it.
    raw: Box<MaybeUninit<sys::yaml_parser_t>>,
    text: PhantomData<&'a [u8]>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let mut raw = Box::new(MaybeUninit::uninit());
        // SAFETY: the parser is initialised before anything else is done with it, stays where it is, and the text outlives it.
        unsafe {
            let parser: *mut sys::yaml_parser_t = raw.as_mut_ptr();
            // It fails only where memory is out, which ends the process before.
            _ = sys::yaml_parser_initialize(parser);
            sys::yaml_parser_set_encoding(parser, sys::YAML_UTF8_ENCODING);
            sys::yaml_parser_set_input_string(parser, text.as_ptr(), text.len() as u64);
        }
        Self { raw, text: PhantomData }
    }

    pub(super) fn next(&mut self) -> Result<Event, YamlError> {
        let mut event = MaybeUninit::<sys::yaml_event_t>::uninit();
        // SAFETY: the parser is initialised; the event is read only after it was filled, and freed once.
        unsafe {
            let parser = self.raw.as_mut_ptr();
            if (&*parser).error != sys::YAML_NO_ERROR || sys::yaml_parser_parse(parser, event.as_mut_ptr()).fail {
                return Err(problem(&*parser));
            }
            let converted = convert(&*event.as_ptr());
            sys::yaml_event_delete(event.as_mut_ptr());
            Ok(converted)
        }
    }
}

impl Drop for Parser<'_> {
    fn drop(&mut self) {
        // SAFETY: it was initialised, and nothing uses it afterwards.
        unsafe { sys::yaml_parser_delete(self.raw.as_mut_ptr()) }
    }
}

/// The failure as Go's translation tells it.
fn problem(parser: &sys::yaml_parser_t) -> YamlError {
    let mut line = parser.problem_mark.line;
    if line != 0 {
        line += u64::from(parser.error == sys::YAML_SCANNER_ERROR);
    } else {
        line = parser.context_mark.line;
    }
    // SAFETY: libyaml's texts are constants that end with a zero.
    let told = (!parser.problem.is_null()).then(|| unsafe { CStr::from_ptr(parser.problem.cast()) }.to_string_lossy());
    let told = told.unwrap_or_else(|| "unknown problem parsing YAML content".into());
    YamlError::new(if line == 0 { told.into_owned() } else { format!("line {line}: {told}") })
}

/// # Safety
/// The event must be one that the parser filled.
unsafe fn convert(event: &sys::yaml_event_t) -> Event {
    // SAFETY: the type says which of the union's fields is set; its texts end with a zero, or have the length told.
    unsafe {
        match event.type_ {
            sys::YAML_STREAM_END_EVENT => Event::StreamEnd,
            sys::YAML_DOCUMENT_START_EVENT => Event::DocumentStart,
            sys::YAML_DOCUMENT_END_EVENT => Event::DocumentEnd,
            sys::YAML_ALIAS_EVENT => Event::Alias(text(event.data.alias.anchor).unwrap_or_default()),
            sys::YAML_SCALAR_EVENT => {
                let scalar = &event.data.scalar;
                let length = usize::try_from(scalar.length).unwrap_or_default();
                Event::Scalar {
                    value: slice::from_raw_parts(scalar.value, length).to_vec(),
                    tag: text(scalar.tag),
                    plain: scalar.style == sys::YAML_PLAIN_SCALAR_STYLE,
                    anchor: text(scalar.anchor),
                }
            }
            sys::YAML_SEQUENCE_START_EVENT => Event::SequenceStart(text(event.data.sequence_start.anchor)),
            sys::YAML_SEQUENCE_END_EVENT => Event::SequenceEnd,
            sys::YAML_MAPPING_START_EVENT => Event::MappingStart(text(event.data.mapping_start.anchor)),
            sys::YAML_MAPPING_END_EVENT => Event::MappingEnd,
            _ => Event::Nothing,
        }
    }
}

/// # Safety
/// The pointer must be null or lead to a text that ends with a zero.
unsafe fn text(pointer: *const u8) -> Option<String> {
    // SAFETY: as the caller promises.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer.cast()) }.to_string_lossy().into_owned())
}

/// How a scalar is to be written, if it can be.
#[derive(Clone, Copy)]
pub(super) enum Style {
    Plain,
    DoubleQuoted,
    Literal,
}

/// Writes a document.
pub(super) struct Emitter {
    /// In a box, for libyaml keeps pointers to it.
    raw: Box<MaybeUninit<sys::yaml_emitter_t>>,
    /// In a box of its own, for the emitter has a pointer to it.
    #[allow(clippy::box_collection, reason = "libyaml has a pointer to the vector itself")]
    written: Box<Vec<u8>>,
}

/// # Safety
/// `data` must be the emitter's `written`, which nothing else uses meanwhile.
unsafe fn write(data: *mut c_void, buffer: *mut u8, size: u64) -> i32 {
    // SAFETY: as the caller promises; libyaml hands over a buffer of that size.
    unsafe {
        let written = &mut *data.cast::<Vec<u8>>();
        written.extend_from_slice(slice::from_raw_parts(buffer, usize::try_from(size).unwrap_or_default()));
    }
    1
}

impl Emitter {
    /// An emitter with a document begun.
    pub(super) fn new() -> Result<Self, YamlError> {
        let mut emitter = Self { raw: Box::new(MaybeUninit::uninit()), written: Box::default() };
        // SAFETY: the emitter is initialised before anything else is done with it; both boxes stay where they are.
        unsafe {
            let raw: *mut sys::yaml_emitter_t = emitter.raw.as_mut_ptr();
            _ = sys::yaml_emitter_initialize(raw);
            sys::yaml_emitter_set_unicode(raw, true);
            sys::yaml_emitter_set_output(raw, write, ptr::from_mut(&mut *emitter.written).cast());
        }
        // SAFETY: each initialises the event that it is given.
        unsafe {
            emitter.emit(|event| sys::yaml_stream_start_event_initialize(event, sys::YAML_UTF8_ENCODING).fail)?;
            emitter.emit(|event| {
                sys::yaml_document_start_event_initialize(
                    event,
                    ptr::null_mut(),
                    ptr::null_mut(),
                    ptr::null_mut(),
                    true,
                )
                .fail
            })?;
        }
        Ok(emitter)
    }

    /// # Safety
    /// `make` must initialise the event unless it tells of a failure.
    unsafe fn emit(&mut self, make: impl FnOnce(*mut sys::yaml_event_t) -> bool) -> Result<(), YamlError> {
        let mut event = MaybeUninit::uninit();
        // SAFETY: the emitter takes the event over, and frees it.
        if make(event.as_mut_ptr()) || unsafe { sys::yaml_emitter_emit(self.raw.as_mut_ptr(), event.as_mut_ptr()).fail }
        {
            return Err(YamlError::new("cannot be written"));
        }
        Ok(())
    }

    pub(super) fn scalar(&mut self, value: &str, style: Style) -> Result<(), YamlError> {
        let style = match style {
            Style::Plain => sys::YAML_PLAIN_SCALAR_STYLE,
            Style::DoubleQuoted => sys::YAML_DOUBLE_QUOTED_SCALAR_STYLE,
            Style::Literal => sys::YAML_LITERAL_SCALAR_STYLE,
        };
        let length = i32::try_from(value.len()).map_err(|_| YamlError::new("a text is too long"))?;
        // SAFETY: the value is copied into the event.
        unsafe {
            self.emit(|event| {
                let (anchor, tag) = (ptr::null(), ptr::null());
                sys::yaml_scalar_event_initialize(event, anchor, tag, value.as_ptr(), length, true, true, style).fail
            })
        }
    }

    pub(super) fn sequence(&mut self) -> Result<(), YamlError> {
        let style = sys::YAML_BLOCK_SEQUENCE_STYLE;
        // SAFETY: the event is initialised.
        unsafe {
            self.emit(|event| {
                sys::yaml_sequence_start_event_initialize(event, ptr::null(), ptr::null(), true, style).fail
            })
        }
    }

    pub(super) fn end_sequence(&mut self) -> Result<(), YamlError> {
        // SAFETY: the event is initialised.
        unsafe { self.emit(|event| sys::yaml_sequence_end_event_initialize(event).fail) }
    }

    pub(super) fn mapping(&mut self) -> Result<(), YamlError> {
        let style = sys::YAML_BLOCK_MAPPING_STYLE;
        // SAFETY: the event is initialised.
        unsafe {
            self.emit(|event| {
                sys::yaml_mapping_start_event_initialize(event, ptr::null(), ptr::null(), true, style).fail
            })
        }
    }

    pub(super) fn end_mapping(&mut self) -> Result<(), YamlError> {
        // SAFETY: the event is initialised.
        unsafe { self.emit(|event| sys::yaml_mapping_end_event_initialize(event).fail) }
    }

    /// Ends the document; answers what was written.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, YamlError> {
        // SAFETY: the events are initialised; the emitter is.
        unsafe {
            self.emit(|event| sys::yaml_document_end_event_initialize(event, true).fail)?;
            if sys::yaml_emitter_flush(self.raw.as_mut_ptr()).fail {
                return Err(YamlError::new("cannot be written"));
            }
        }
        Ok(std::mem::take(&mut *self.written))
    }
}

impl Drop for Emitter {
    fn drop(&mut self) {
        // SAFETY: it was initialised, and nothing uses it afterwards.
        unsafe { sys::yaml_emitter_delete(self.raw.as_mut_ptr()) }
    }
}

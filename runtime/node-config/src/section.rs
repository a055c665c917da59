//! One table of the file, read key by key with every fault at its place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::decode::{Fault, wrong};
use crate::{Family, PerFamily, Problem};

/// A table of the file, known to match the schema, with where its name stands.
#[derive(Clone, Copy)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'static str,
    pub(crate) table: Option<&'a DeTable<'a>>,
    pub(crate) at: usize,
}

/// The table `name` of the file, which may be absent.
pub(crate) fn section<'a>(root: &'a DeTable<'a>, name: &'static str) -> Section<'a> {
    let entry = root.iter().find(|(k, _)| k.get_ref() == name);
    Section {
        name,
        table: entry.and_then(|(_, v)| v.get_ref().as_table()),
        at: entry.map_or(0, |(k, _)| k.span().start),
    }
}

impl<'a> Section<'a> {
    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.iter().find(|(k, _)| k.get_ref() == key).map(|(_, v)| v)
    }

    /// The string at `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.get_ref().as_str()
    }

    pub(crate) fn list(&self, key: &str) -> Option<Vec<(&'a str, Range<usize>)>> {
        let items = self.get(key)?.get_ref().as_array()?;
        Some(items.iter().filter_map(|i| Some((i.get_ref().as_str()?, i.span()))).collect())
    }

    fn dotted(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    /// Where `key` is written, or else the section.
    fn span(&self, key: &str) -> Range<usize> {
        self.get(key).map_or(self.at..self.at, Spanned::span)
    }

    /// The fault that the value of `key` is wrong.
    pub(crate) fn fault(&self, key: &str, why: impl Into<String>) -> Fault {
        (self.span(key), wrong(&self.dotted(key), why.into()))
    }

    /// The fault that `key` isn't there.
    pub(crate) fn missing(&self, key: &str, why: &str) -> Fault {
        (self.at..self.at, Problem::Missing { key: self.dotted(key), why: why.to_owned() })
    }

    /// The value through `read`; its error becomes a fault at the value.
    pub(crate) fn parsed<T, E: ToString>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Fault> {
        self.text(key).map(|text| read(text).map_err(|e| self.fault(key, e.to_string()))).transpose()
    }

    /// Every item of a list through `read`.
    pub(crate) fn parsed_list<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, Fault> {
        let Some(items) = self.list(key) else {
            return Ok(None);
        };
        let read_item = |(i, (text, span)): (usize, (&str, Range<usize>))| {
            read(text).map_err(|why| (span, wrong(&format!("{}[{i}]", self.dotted(key)), why)))
        };
        items.into_iter().enumerate().map(read_item).collect::<Result<_, _>>().map(Some)
    }
    /// One value, or one of each family, as an array or with a comma between them: each through `read`.
    pub(crate) fn per_family<T: Family + Copy>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<PerFamily<T>>, Fault> {
        let given = match self.text(key) {
            Some(text) => {
                let given: Result<Vec<_>, _> = text.split(',').map(|item| read(item.trim())).collect();
                Some(given.map_err(|why| self.fault(key, why))?)
            }
            None => self.parsed_list(key, read)?,
        };
        given.map(|given| PerFamily::new(&given).map_err(|why| self.fault(key, why))).transpose()
    }
}

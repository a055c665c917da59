//! Query strings of requests, and percent-encoding.

use std::borrow::Cow;

/// The parameters of a query, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query apart; every text is one.
    pub fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(&key.replace('+', " ")).into_owned(), decode(&value.replace('+', " ")).into_owned())
        };
        Self(text.split('&').filter(|p| !p.is_empty()).map(pair).collect())
    }

    /// The first value of a parameter; `None` if it is absent or empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// True if the parameter is there and not `false` or `0`.
    pub fn flag(&self, key: &str) -> bool {
        let found = self.0.iter().find(|(k, _)| k == key);
        found.is_some_and(|(_, v)| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// True if the parameter is there, whatever its value.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// Undoes percent-encoding; what is no valid escape or no UTF-8 stays or becomes U+FFFD.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                // Two hex digits make at most 255.
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            (b, _, _) => {
                out.push(b);
                i += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_empty_values_count_as_absent() {
        let q = Query::parse("labelSelector=a%3Db%2Cc&watch=1&x&continue=&f=a+b&bad=%zz");
        assert_eq!(q.get("labelSelector"), Some("a=b,c"));
        assert!(q.flag("watch") && q.flag("x") && !q.flag("y"));
        assert_eq!(q.get("continue"), None);
        assert_eq!(q.get("f"), Some("a b"));
        assert_eq!(q.get("bad"), Some("%zz"));
    }
}

//! sprig's functions that need what nobody can guess: random texts, keys and certificates.

use super::lists::texts;
use super::{Made, at_least, exactly, int, size, text};
use crate::host::{CertificateRequest, Pair};
use crate::template::Engine;
use crate::value::Value;

const DIGITS: &str = "0123456789";
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

pub(super) fn find(name: &str) -> Option<fn(&mut Engine<'_>, &[Value]) -> Made> {
    Some(match name {
        "randAlphaNum" => |engine, given| random(engine, given, &format!("{LETTERS}{DIGITS}")),
        "randAlpha" => |engine, given| random(engine, given, LETTERS),
        "randNumeric" => |engine, given| random(engine, given, DIGITS),
        "randAscii" => |engine, given| random(engine, given, &(' '..='~').collect::<String>()),
        "randBytes" => |engine, given| {
            let mut bytes = vec![0; size(&exactly::<1>(given)?[0])?];
            engine.host.random(&mut bytes);
            Ok(Value::str(base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes)))
        },
        "randInt" => |engine, given| {
            let [least, most] = exactly::<2>(given)?;
            let (least, most) = (int(least)?, int(most)?);
            let span = u64::try_from(most.saturating_sub(least)).ok().filter(|span| *span > 0);
            let span = span.ok_or("invalid argument to Intn")?;
            let mut bytes = [0; 8];
            engine.host.random(&mut bytes);
            Ok(Value::Int(least.wrapping_add_unsigned(u64::from_le_bytes(bytes) % span)))
        },
        "shuffle" => |engine, given| {
            let mut chars: Vec<char> = text(&exactly::<1>(given)?[0])?.chars().collect();
            for at in (1..chars.len()).rev() {
                let mut bytes = [0; 8];
                engine.host.random(&mut bytes);
                chars.swap(at, (u64::from_le_bytes(bytes) % (at as u64 + 1)) as usize);
            }
            Ok(Value::str(chars.into_iter().collect::<String>()))
        },
        "uuidv4" => |engine, _| {
            let mut bytes = [0; 16];
            engine.host.random(&mut bytes);
            bytes[6] = bytes[6] & 0x0f | 0x40;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            Ok(Value::str(parts.join("-")))
        },
        "genCA" => |engine, given| {
            let [name, days] = exactly::<2>(given)?;
            let request = CertificateRequest {
                common_name: text(name)?.to_owned(),
                days: int(days)?,
                is_ca: true,
                ..CertificateRequest::default()
            };
            engine.host.certificate(&request).map(pair)
        },
        "genSelfSignedCert" => |engine, given| {
            let [name, addresses, names, days] = exactly::<4>(given)?;
            certificate(engine, (name, addresses, names, days), None)
        },
        "genSignedCert" => |engine, given| {
            let [name, addresses, names, days, issuer] = exactly::<5>(given)?;
            let issuer = Pair { certificate: part(issuer, "Cert"), key: part(issuer, "Key") };
            certificate(engine, (name, addresses, names, days), Some(issuer))
        },
        "buildCustomCert" => |_, given| {
            let [certificate, key] = exactly::<2>(given)?;
            let decoded = |value: &Value| -> Result<String, String> {
                let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text(value)?);
                let bytes = bytes.map_err(|_| "unable to decode base64 certificate".to_owned())?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            };
            Ok(pair(Pair { certificate: decoded(certificate)?, key: decoded(key)? }))
        },
        // An elliptic curve's, whatever was asked for.
        "genPrivateKey" => |engine, given| {
            at_least(given, 1)?;
            let request =
                CertificateRequest { common_name: "key".to_owned(), days: 1, ..CertificateRequest::default() };
            Ok(Value::str(engine.host.certificate(&request)?.key))
        },
        "htpasswd"
        | "bcrypt"
        | "derivePassword"
        | "encryptAES"
        | "decryptAES"
        | "genCAWithKey"
        | "genSelfSignedCertWithKey"
        | "genSignedCertWithKey" => |_, _| Err("this function is not part of the server's engine".to_owned()),
        _ => return None,
    })
}

fn random(engine: &mut Engine<'_>, given: &[Value], alphabet: &str) -> Made {
    let count = size(&exactly::<1>(given)?[0])?;
    let alphabet = alphabet.as_bytes();
    // Bytes beyond the last whole turn would make the first letters likelier.
    let fair = 256 - 256 % alphabet.len();
    let mut out = String::with_capacity(count);
    while out.len() < count {
        let mut bytes = [0; 64];
        engine.host.random(&mut bytes);
        let letters = bytes.iter().filter(|byte| usize::from(**byte) < fair);
        out.extend(
            letters.take(count - out.len()).map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])),
        );
    }
    Ok(Value::str(out))
}

fn certificate(
    engine: &mut Engine<'_>,
    (name, addresses, names, days): (&Value, &Value, &Value, &Value),
    issuer: Option<Pair>,
) -> Made {
    let request = CertificateRequest {
        common_name: text(name)?.to_owned(),
        addresses: texts(addresses)?,
        names: texts(names)?,
        days: int(days)?,
        is_ca: false,
        issuer,
    };
    engine.host.certificate(&request).map(pair)
}

fn pair(pair: Pair) -> Value {
    Value::of([("Cert", Value::str(pair.certificate)), ("Key", Value::str(pair.key))])
}

fn part(value: &Value, name: &str) -> String {
    value.get(name).map(|value| value.to_string()).unwrap_or_default()
}

//! The patterns of module aliases: `*`, `?` and sets such as `[0-9A-F]`, as the kernel's own tools write them.

/// Whether the whole of `text` fits `pattern`. A set that is not closed stands for its own characters.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit: the pattern after it, and how much it took.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if let Some(length) = text.get(t).and_then(|byte| one(&pattern[p..], *byte)) {
            p += length;
            t += 1;
            continue;
        }
        match star {
            Some((after, taken)) if taken < text.len() => {
                star = Some((after, taken + 1));
                p = after;
                t = taken + 1;
            }
            _ => return false,
        }
    }
}

/// The length of the pattern's first element if it stands for `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => match set(pattern, byte) {
            Some((fits, length)) => fits.then_some(length),
            None => (byte == b'[').then_some(1),
        },
        other => (*other == byte).then_some(1),
    }
}

/// Whether `byte` is in the set that the pattern begins with, and the set's length; none if it is not closed.
fn set(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if negated { 2 } else { 1 };
    // A bracket in the first place is a member.
    let end = start + 1 + pattern.get(start + 1..)?.iter().position(|b| *b == b']')?;
    let mut members = &pattern[start..end];
    let mut fits = false;
    while let Some((first, rest)) = members.split_first() {
        match rest {
            [b'-', last, rest @ ..] => {
                fits |= (*first..=*last).contains(&byte);
                members = rest;
            }
            _ => {
                fits |= *first == byte;
                members = rest;
            }
        }
    }
    Some((fits != negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_are_those_of_real_aliases() {
        for (pattern, text) in [
            ("virtio:d00000002v*", "virtio:d00000002v00001AF4"),
            ("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"),
            ("of:N*T*Cbrcm,bcm2835-sdhost", "of:NmmcT(null)Cbrcm,bcm2835-sdhost"),
            ("of:N*T*Cregulator-fixedC*", "of:NregulatorTxCregulator-fixedCother"),
            ("acpi*:PNP0C0C:*", "acpi:PNP0C0C:"),
            ("scsi:t-0x00*", "scsi:t-0x00"),
            ("mdio:00000000000000011100110010??????????", "mdio:00000000000000011100110010abcdefghij"),
            ("platform:iTCO_wdt", "platform:iTCO_wdt"),
            ("*", ""),
            ("a**b*", "axxbxb"),
        ] {
            assert!(matches(pattern, text), "{pattern} must fit {text}");
        }
        for (pattern, text) in [
            ("virtio:d00000002v*", "virtio:d00000001v00001AF4"),
            ("of:N*T*Cbrcm,bcm2835-sdhost", "of:NmmcT(null)Cbrcm,bcm2835-sdhostX"),
            ("platform:iTCO_wdt", "platform:iTCO_wdt2"),
            ("platform:iTCO_wdt", "platform:iTCO"),
            ("scsi:t-0x0?", "scsi:t-0x0"),
            ("", "x"),
        ] {
            assert!(!matches(pattern, text), "{pattern} must not fit {text}");
        }
    }

    #[test]
    fn sets_have_members_ranges_and_opposites() {
        for (pattern, text, fits) in [
            ("usb:v0BDAp8[0-24]5*", "usb:v0BDAp815x", true),
            ("usb:v0BDAp8[0-24]5*", "usb:v0BDAp845", true),
            ("usb:v0BDAp8[0-24]5*", "usb:v0BDAp835", false),
            ("d[!0-9]", "dA", true),
            ("d[!0-9]", "d7", false),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
            ("a[b", "a[b", true),
            ("[", "[", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}

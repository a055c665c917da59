//! The order that yaml.v2 writes keys in: letters behind other characters, numbers by their values.

use std::cmp::Ordering;

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    for i in 0..a.len().min(b.len()) {
        if a[i] == b[i] {
            continue;
        }
        let (a_letter, b_letter) = (a[i].is_alphabetic(), b[i].is_alphabetic());
        if a_letter && b_letter {
            return a[i].cmp(&b[i]);
        }
        if a_letter || b_letter {
            return if b_letter { Ordering::Less } else { Ordering::Greater };
        }
        return numbers(&a, &b, i);
    }
    a.len().cmp(&b.len())
}

/// Compares two texts that differ at a place where neither has a letter.
fn numbers(a: &[char], b: &[char], at: usize) -> Ordering {
    let (mut a_number, mut b_number) = (0i64, 0i64);
    if a[at] == '0' || b[at] == '0' {
        let before = a[..at].iter().rev().take_while(|c| c.is_ascii_digit());
        if before.into_iter().any(|c| *c != '0') {
            (a_number, b_number) = (1, 1);
        }
    }
    let read = |text: &[char], mut number: i64| {
        let mut end = at;
        while let Some(digit) = text.get(end).and_then(|c| c.to_digit(10)) {
            number = number.wrapping_mul(10).wrapping_add(i64::from(digit));
            end += 1;
        }
        (number, end)
    };
    let (a_number, a_end) = read(a, a_number);
    let (b_number, b_end) = read(b, b_number);
    a_number.cmp(&b_number).then(a_end.cmp(&b_end)).then(a[at].cmp(&b[at]))
}

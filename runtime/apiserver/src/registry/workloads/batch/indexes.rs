//! Sets of indexes as text: `1,3-5,7`.

/// How many indexes a text names, all of them below `completions` and in order.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None::<i64>, 0);
    if text.is_empty() {
        return Ok(0);
    }
    for part in text.split(',') {
        let (low, high) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= low) {
            return Err(format!("non-increasing order, previous: {last}, current: {low}"));
        }
        total += high - low + 1;
        last = Some(high);
    }
    Ok(total)
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let ends: Vec<&str> = part.split('-').collect();
    if ends.len() > 2 {
        return Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        ));
    }
    let number = |text: &str| {
        let n: i64 = text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if n >= completions { Err(format!("too large index: {text:?}")) } else { Ok(n) }
    };
    let low = number(ends[0])?;
    match ends.get(1) {
        None => Ok((low, low)),
        Some(high) => {
            let high = number(high)?;
            if low >= high {
                return Err(format!("non-increasing order, previous: {low}, current: {high}"));
            }
            Ok((low, high))
        }
    }
}

/// The first index that both texts name, if there is one. What can't be read names none.
pub(super) fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let read =
        |text: &str| -> Vec<(i64, i64)> { text.split(',').filter_map(|p| interval(p, completions).ok()).collect() };
    let (completed, failed) = (read(completed), read(failed));
    let shared = completed.iter().flat_map(|c| failed.iter().map(move |f| (c.0.max(f.0), c.1.min(f.1))));
    shared.filter(|(low, high)| low <= high).map(|(low, _)| low).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_indexes_are_counted_and_compared() {
        assert_eq!(count("1,3-5,7", 10), Ok(5));
        assert_eq!(count("", 10), Ok(0));
        assert_eq!(count("3,1", 10), Err("non-increasing order, previous: 3, current: 1".into()));
        assert_eq!(count("12", 10), Err("too large index: \"12\"".into()));
        assert_eq!(count("a", 10), Err("cannot convert string to integer for index: \"a\"".into()));
        assert!(count("1-2-3", 10).unwrap_err().starts_with("the fragment \"1-2-3\" violates"));
        assert_eq!(overlap("0-3,7", "2,7", 10), Some(2));
        assert_eq!(overlap("0-3", "4-5", 10), None);
    }
}

//! Names of fields, and values, compared: dozens of times for each change, and nearly all of them are short. So it is
//! done in place, a word at a time, where calling what compares memory would cost more than comparing.

use std::cmp::Ordering;

use crate::change::Field;

/// The order of two names, that of `str`.
#[inline]
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if let (Some(a), Some(b)) = (a.first_chunk::<4>(), b.first_chunk::<4>()) {
        // Mostly it is decided here.
        let (a, b) = (u32::from_be_bytes(*a), u32::from_be_bytes(*b));
        if a != b {
            return a.cmp(&b);
        }
    }
    a.cmp(b)
}

/// Whether two names, or two values, are the same.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // The first and the last word, which have some bytes in common.
    if let (Some(first), Some(other)) = (a.first_chunk::<8>(), b.first_chunk::<8>()) {
        let rest = if a.len() <= 16 { a.last_chunk::<8>() == b.last_chunk::<8>() } else { first == other && a == b };
        first == other && rest
    } else if let (Some(first), Some(other)) = (a.first_chunk::<4>(), b.first_chunk::<4>()) {
        first == other && a.last_chunk::<4>() == b.last_chunk::<4>()
    } else {
        a.iter().eq(b)
    }
}

/// The field of that name, of fields that are sorted.
pub(crate) fn field<'a>(fields: &'a [Field], name: &str) -> Option<&'a Field> {
    // What is asked for most often is not there mostly, and would stand before all others.
    fields.first().filter(|first| compare(&first.name, name).is_le())?;
    fields.binary_search_by(|f| compare(&f.name, name)).ok().map(|at| &fields[at])
}

/// Where a name has its first `.` or `[`: both are ASCII.
#[inline]
pub(crate) fn part_at(name: &[u8]) -> Option<usize> {
    let (words, rest) = name.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        if let Some(at) = part_in(*word) {
            return Some(number * 8 + at);
        }
    }
    match name.last_chunk::<8>() {
        _ if rest.is_empty() => None,
        // Of what it has once more, it is known that there is none in it.
        Some(last) => part_in(*last).map(|at| name.len() - 8 + at),
        None => rest.iter().position(|byte| matches!(byte, b'.' | b'[')),
    }
}

fn part_in(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let word = u64::from_le_bytes(word);
    // The lowest byte that is zero has its top bit set, and none below it has.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let found = zeros(word ^ (ONES * b'.' as u64)) | zeros(word ^ (ONES * b'[' as u64));
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[ab]{0,20}", "[ab.\\[]{0,20}", "[a-z_.\\[\\]]{0,20}", ".{0,12}", "(line|lines|lines\\[)[a-z]{0,9}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn names_compare_as_texts_do(a in name(), b in name(), at in 0..20_usize) {
            prop_assert_eq!(compare(&a, &b), a.cmp(&b));
            prop_assert_eq!(same(a.as_bytes(), b.as_bytes()), a == b);
            prop_assert!(same(a.as_bytes(), a.clone().as_bytes()));
            // One byte that is another is enough.
            let mut other = a.clone().into_bytes();
            if let Some(byte) = other.get_mut(at) {
                *byte ^= 1;
                prop_assert!(!same(a.as_bytes(), &other));
            }
        }

        #[test]
        fn the_first_sign_of_a_part_is_found(name in name()) {
            prop_assert_eq!(part_at(name.as_bytes()), name.find(['.', '[']));
        }

        #[test]
        fn a_field_is_found_among_sorted_ones(names in prop::collection::btree_set(name(), 0..9), wanted in name()) {
            let fields: Vec<Field> = names.iter().map(|name| Field::new(name.as_str(), "1")).collect();
            prop_assert_eq!(field(&fields, &wanted).map(|f| f.name.as_str()), names.get(&wanted).map(String::as_str));
        }
    }
}

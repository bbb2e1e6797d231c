use super::*;
use proptest::prelude::*;

const MAX: u32 = 1 << 20;

/// What a creation and its application must give, whatever the two are.
fn check(base: &[u8], target: &[u8]) -> Option<usize> {
    let mut differ = Differ::new(MAX);
    let delta = differ.create(base, target)?.to_vec();
    assert!(delta.len() < target.len());
    assert_eq!(apply(base, &delta, MAX).as_deref(), Ok(target));
    // What was left from one creation does not reach into the next.
    assert_eq!(differ.create(base, target), Some(&delta[..]));
    Some(delta.len())
}

/// As [`check`], and every run of the delta is text by itself.
fn check_text(base: &str, target: &str) -> Option<usize> {
    let mut differ = Differ::new(MAX);
    let delta = differ.create_text(base, target)?.to_owned();
    assert!(delta.len() < target.len());
    assert_eq!(apply(base.as_bytes(), delta.as_bytes(), MAX).as_deref(), Ok(target.as_bytes()));
    let mut rest = &delta[delta.find('\n').unwrap() + 1..];
    loop {
        let end = rest.find(['@', ':', ';']).unwrap();
        let count = number_of(&rest[..end]);
        let body = &rest[end + 1..];
        rest = match rest.as_bytes()[end] {
            b':' => &body[count..],
            b'@' => {
                let (offset, after) = body.split_once(',').unwrap();
                let offset = number_of(offset);
                assert!(base.get(offset..offset + count).is_some(), "{delta:?} of {base:?}");
                after
            }
            _ => break,
        };
    }
    Some(delta.len())
}

fn number_of(digits: &str) -> usize {
    digits.bytes().fold(0, |sum, digit| sum * 64 + value_of(digit).unwrap() as usize)
}

#[test]
fn numbers_have_the_digits_of_fossil() {
    for (number, expected) in [
        (0, "0"),
        (9, "9"),
        (10, "A"),
        (35, "Z"),
        (36, "_"),
        (37, "a"),
        (62, "z"),
        (63, "~"),
        (64, "10"),
        (4_095, "~~"),
        (4_096, "100"),
        (u32::MAX, "3~~~~~"),
    ] {
        let mut out = Vec::new();
        write_number(&mut out, number);
        assert_eq!(std::str::from_utf8(&out), Ok(expected));
        assert_eq!(digits_in(number) as usize, expected.len());
        assert_eq!(number_of(expected), number as usize);
    }
}

#[test]
fn deltas_that_the_javascript_package_made_apply() {
    let vectors: Vec<[String; 3]> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert!(vectors.len() >= 8);
    for [base, target, hex] in vectors {
        let (base, target) = (base.as_bytes(), target.as_bytes());
        let digits = hex.as_bytes().as_chunks::<2>().0.iter();
        let delta: Vec<u8> = digits
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect();
        assert_eq!(apply(base, &delta, MAX).as_deref(), Ok(target));
        // Any byte changed or cut is found, or it changes nothing.
        for at in 0..delta.len() {
            assert!(apply(base, &delta[..at], MAX).is_err());
            let mut other = delta.clone();
            other[at] ^= 1;
            assert!(apply(base, &other, MAX).is_ok_and(|got| got == target) <= (delta.len() < 6));
        }
    }
}

#[test]
fn a_changed_field_costs_a_few_bytes() {
    let quote = |n: u32| {
        format!(
            "{{\"symbol\":\"EURUSD\",\"bid\":{}.5,\"venue\":\"größte Börse\",\"depth\":[[1,2],[3,4]],\
             \"time\":\"2026-01-01T00:00:{:02}Z\",\"note\":\"that stays as it is all the time\"}}",
            n, n
        )
    };
    let (base, target) = (quote(10), quote(11));
    let cost = check_text(&base, &target).unwrap();
    assert!(cost * 4 < target.len(), "{cost} of {}", target.len());
    assert_eq!(check_text(&base, &base).unwrap(), base_cost(&base));
    // Something moved: neither the beginning nor the end tells.
    let rows: Vec<String> = (0..20).map(|n| format!("{{\"row\":{n},\"name\":\"n{n}\"}}")).collect();
    let (before, after) = (rows[..18].join(","), rows[2..].join(","));
    let (before, after) = (format!("[{before}]"), format!("[{after}]"));
    let cost = check(before.as_bytes(), after.as_bytes()).unwrap();
    assert!(cost < 80, "{cost}");
}

/// Header, one copy of everything and checksum.
fn base_cost(base: &str) -> usize {
    let digits = |number: u32| digits_in(number) as usize;
    let length = digits(base.len() as u32);
    2 * length + 5 + digits(checksum(base.as_bytes()))
}

#[test]
fn what_is_not_shorter_or_too_long_gets_no_delta() {
    for (base, target) in [("", ""), ("", "abc"), ("abc", "abc"), ("abc", ""), ("0123456789", "x")]
    {
        assert_eq!(check(base.as_bytes(), target.as_bytes()), None);
        assert_eq!(check_text(base, target), None);
    }
    let noise = |seed: u64| -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..1000).map(|_| next()).collect()
    };
    assert_eq!(check(&noise(1), &noise(2)), None);
    let long = vec![b'a'; 1000];
    let mut differ = Differ::new(999);
    assert_eq!(differ.create(&long, &long), None);
    assert_eq!(differ.create(&long, &long[..500]), None);
    assert_eq!(differ.create(&long[..500], &long), None);
    assert!(differ.create(&long[..999], &long[..999]).is_some());
}

#[test]
fn memory_is_given_back_after_a_large_document() {
    let large: Vec<u8> = (0..MAX).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let mut turned = large[1000..].to_vec();
    turned.extend_from_slice(&large[..1000]);
    turned.insert(0, b'x');
    turned.pop();
    let mut differ = Differ::new(MAX);
    assert!(differ.create(&large, &turned).is_some());
    differ.create(b"0123456789abcdef", b"0123456789abcdef");
    assert!(differ.memory_bytes() <= 256 << 10, "{}", differ.memory_bytes());
}

#[test]
fn repetitive_documents_take_bounded_work() {
    // Every window of both is the same: the longest chains and the longest extensions there are.
    let base = vec![b'a'; MAX as usize];
    let mut target = base.clone();
    target[0] = b'b';
    target[MAX as usize / 2] = b'b';
    target[MAX as usize - 1] = b'b';
    assert!(check(&base, &target).unwrap() < 64);
    let base = b"aaaaaaab".repeat(8_000);
    let target = b"aaaaaaac".repeat(8_000);
    assert_eq!(check(&base, &target), None);
}

#[test]
fn malformed_deltas_are_refused_for_what_they_are() {
    use DeltaError::*;
    let base = b"0123456789abcdef";
    let good = b"8\n4@2,2:xy2@E,18H~Z;";
    for (delta, expected) in [
        (&b""[..], Truncated),
        (b"8", Truncated),
        (b"\n", Number),
        (b"8;", Header),
        (b"8\n", Truncated),
        (b"8\n4", Truncated),
        (b"8\n4@", Truncated),
        (b"8\n4@2", Truncated),
        (b"8\n4@2;", Operator),
        (b"8\n4@,", Number),
        (b"8\n@2,", Number),
        (b"8\n4!", Operator),
        (b"8\n4@2,5:abcd", Truncated),
        (b"8\n4@2,5:abcde0;", Length),
        (b"8\n4@2,0;", Length),
        (b"8\n4@E,", CopyRange),
        (b"8\n4@3~~~~~,", CopyRange),
        (b"8\n8@0,8@0,0;", Length),
        (b"8\n8@0,0;", Checksum),
        (b"4000000\n", Number),
        (b"3~~~~~\n", TooBig),
        (b"4001\n", TooBig),
        (b"8\n4@4000000,", Number),
    ] {
        assert_eq!(apply(base, delta, 4096 * 64), Err(expected), "{}", delta.escape_ascii());
    }
    let sum = {
        let mut out = b"8\n4@2,2:xy2@E,".to_vec();
        write_number(&mut out, checksum(b"2345xyef"));
        out.push(b';');
        out
    };
    assert_eq!(apply(base, &sum, 8).as_deref(), Ok(&b"2345xyef"[..]));
    assert_eq!(apply(base, &sum, 7), Err(TooBig));
    assert_eq!(apply(base, &[&sum[..], b"x"].concat(), 8), Err(Trailing));
    assert_eq!(apply(base, good, 8), Err(Checksum));
}

/// Documents as a channel gets them one after the other: some members change, come and go.
fn documents() -> impl Strategy<Value = (String, String)> {
    let text = prop_oneof!["[a-z ]{0,30}", "[äöü日本語🙂é]{0,12}", "[0-9.]{1,12}"];
    let members = prop::collection::vec((text.clone(), text), 1..30);
    (members, prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u16>()), 0..5))
        .prop_map(|(members, changes)| {
            let mut changed = members.clone();
            for (at, kind, value) in changes {
                let at = at.index(changed.len());
                match kind {
                    0 => changed[at].1 = value.to_string(),
                    1 => changed[at].1.push('ü'),
                    2 => changed.insert(at, (format!("n{value}"), "日本".to_owned())),
                    _ if changed.len() > 1 => drop(changed.remove(at)),
                    _ => {}
                }
            }
            (document(&members), document(&changed))
        })
}

fn document(members: &[(String, String)]) -> String {
    let members: Vec<_> =
        members.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
    format!("{{{}}}", members.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn similar_documents_come_back((base, target) in documents()) {
        check_text(&base, &target);
        check(base.as_bytes(), target.as_bytes());
    }

    #[test]
    fn bytes_come_back(
        base in prop::collection::vec(0..4_u8, 0..300),
        target in prop::collection::vec(0..4_u8, 0..300),
    ) {
        check(&base, &target);
    }

    #[test]
    fn text_of_few_characters_comes_back(
        base in "[äãö日月a]{0,100}", target in "[äãö日月a]{0,100}",
    ) {
        check_text(&base, &target);
        check(base.as_bytes(), target.as_bytes());
    }

    #[test]
    fn any_bytes_as_a_delta_end_within_the_limit(
        base in prop::collection::vec(any::<u8>(), 0..50),
        delta in "[0-9A-F]\n([0-9A-F]{1,2}[@:;][0-9A-F]?,?){0,6}", max in 0..20_u32,
    ) {
        if let Ok(target) = apply(&base, delta.as_bytes(), max) {
            prop_assert!(target.len() <= max as usize);
        }
    }
}

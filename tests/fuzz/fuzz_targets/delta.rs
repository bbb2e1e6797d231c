//! Fossil deltas: what is created applies and is shorter than its target, in text every run of it
//! too, and any bytes as a delta give an error or a target within the limit.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::delta::{Differ, apply};

    const MAX: u32 = 4_096;

    pub fn run(data: &[u8]) {
        let Some((split, rest)) = data.split_first() else { return };
        let (base, target) = rest.split_at(rest.len() * usize::from(*split) / 255);
        let mut differ = Differ::new(MAX);
        if let Some(delta) = differ.create(base, target) {
            assert!(delta.len() < target.len() && target.len() <= MAX as usize);
            assert_eq!(apply(base, delta, MAX).as_deref(), Ok(target));
        }
        let texts = (String::from_utf8_lossy(base), String::from_utf8_lossy(target));
        if let Some(delta) = differ.create_text(&texts.0, &texts.1) {
            assert!(delta.len() < texts.1.len());
            let applied = apply(texts.0.as_bytes(), delta.as_bytes(), MAX);
            assert_eq!(applied.as_deref(), Ok(texts.1.as_bytes()));
        }
        if let Ok(applied) = apply(base, target, MAX) {
            assert!(applied.len() <= MAX as usize);
        }
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));

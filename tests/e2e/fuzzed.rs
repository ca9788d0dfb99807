//! What `make fuzz` looks into: it has to hold for the seeds in fuzz/corpus, for seeds that were changed, and for random bytes.

use proptest::{prelude::*, sample::Index};
use std::fs;
use talaria_tests::{binary::workspace, fuzzed};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 3] =
    [("answers", fuzzed::answers), ("callbacks", fuzzed::callbacks), ("tokens", fuzzed::tokens)];

/// All seeds with their targets.
fn seeds() -> Vec<(Target, Vec<u8>)> {
    let of_target = |target: Target| {
        let files = fs::read_dir(workspace().join("fuzz/corpus").join(target.0)).unwrap();
        files.map(move |file| (target, fs::read(file.unwrap().path()).unwrap()))
    };
    TARGETS.into_iter().flat_map(of_target).collect()
}

#[test]
fn each_target_holds_for_its_seeds() {
    for ((name, target), seed) in seeds() {
        eprintln!("{name}: {}", String::from_utf8_lossy(&seed));
        target(&seed);
    }
}

#[test]
fn each_target_is_one_of_the_recipe() {
    let files = fs::read_dir(workspace().join("fuzz/fuzz_targets")).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, TARGETS.map(|(name, _)| format!("{name}.rs")));
    let manifest = fs::read_to_string(workspace().join("fuzz/Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(seeds().iter().any(|((of, _), _)| *of == name), "{name} has no seeds");
    }
}

proptest! {
    #[test]
    fn each_target_holds_for_changed_seeds(
        seed: Index, changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6), cut: Index, more in prop::option::of(".{0,20}"),
    ) {
        let seeds = seeds();
        let ((_, target), seed) = seed.get(&seeds);
        let mut bytes = seed.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(more) = more {
            let at = cut.index(bytes.len());
            bytes.splice(at..at, more.bytes());
        }
        target(&bytes);
    }

    #[test]
    fn each_target_holds_for_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,100}") {
        for (_, target) in TARGETS {
            target(&bytes);
            target(text.as_bytes());
        }
    }
}

//! Hostile pickles: nothing in them is run, and none crashes the program or makes it allocate much memory.
#![allow(unsafe_code)] // The counting allocator needs it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

use proptest::prelude::*;
use windrow_model::{Features, ImportError, Model, import};

use crate::fixtures::{VERSIONS, case, cases, kind_file};

const NEWEST: &str = VERSIONS[1];

/// Counts the bytes that each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get().saturating_add(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn features() -> Features {
    "mean".parse().unwrap()
}

/// Imports a pickle and asserts that the memory allocated is in proportion to the file.
fn import_modestly(pickle: &[u8], features: Features) -> Result<Model, ImportError> {
    let before = ALLOCATED.get();
    let result = import(pickle, features);
    let allocated = ALLOCATED.get() - before;
    // The window and the tables of a decompressor, which a file may begin like, have 80 kB.
    assert!(
        allocated <= 100_000 + 200 * pickle.len(),
        "{allocated} bytes for {}",
        pickle.len()
    );
    result
}

fn refused(pickle: &[u8]) -> ImportError {
    import_modestly(pickle, features()).unwrap_err()
}

#[test]
fn whatever_is_asked_for_is_named_and_not_run() {
    for (pickle, asked) in [
        // GLOBAL and REDUCE, as `__reduce__` writes it in protocols 0 and 2.
        (&b"cos\nsystem\n(Vtouch /tmp/x\ntR."[..], "os.system"),
        (
            b"\x80\x02cposix\nsystem\nX\x07\0\0\0touch /\x85R.",
            "posix.system",
        ),
        (b"cbuiltins\neval\n(V1\ntR.", "builtins.eval"),
        (b"c__builtin__\nexec\n(V1\ntR.", "__builtin__.exec"),
        // STACK_GLOBAL, also with names from the memo.
        (
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.",
            "os.system",
        ),
        (
            b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.",
            "os.system",
        ),
        // INST, OBJ, NEWOBJ and NEWOBJ_EX.
        (b"(Vid\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nVid\no.", "os.system"),
        (b"csubprocess\nPopen\n(Vid\nt\x81.", "subprocess.Popen"),
        (
            b"\x80\x04\x8c\nsubprocess\x8c\x05Popen\x93(Vid\nt}\x92.",
            "subprocess.Popen",
        ),
        // Inside the state of an allowed class.
        (
            b"csklearn.svm._classes\nOneClassSVM\n)\x81}Vkernel\ncos\nsystem\n(Vid\ntRsb.",
            "os.system",
        ),
        // Reached through an allowed module or class.
        (
            b"csklearn.svm._classes\nos.system\n.",
            "sklearn.svm._classes.os.system",
        ),
        (
            b"csklearn.svm._classes\nOneClassSVM.fit\n.",
            "sklearn.svm._classes.OneClassSVM.fit",
        ),
        (b"cnumpy\nload\n(Vx\ntR.", "numpy.load"),
        (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
        // Terminal control codes are escaped in the message.
        (b"c\x1b[2J\nx\n.", "\\u{1b}[2J.x"),
    ] {
        let error = refused(pickle);
        assert_eq!(
            error,
            ImportError::Global(asked.into()),
            "{}",
            pickle.escape_ascii()
        );
        assert!(error.to_string().contains(&format!("`{asked}`")));
        assert!(error.to_string().contains("it was not run"));
    }
    let long = [b"c", "é".repeat(50_000).as_bytes(), b"\nx\n."].concat();
    assert!(refused(&long).to_string().len() < 2_000);
}

#[test]
fn instructions_that_no_model_needs_are_refused() {
    for (code, pickle) in [
        (b'o', &b"(csklearn.svm._classes\nOneClassSVM\no."[..]),
        (b'i', b"(isklearn.svm._classes\nOneClassSVM\n."),
        (0x92, b"csklearn.svm._classes\nOneClassSVM\n)}\x92."),
        // Persistent ids, the extension registry, out-of-band buffers, sets.
        (b'P', b"NP1\n."),
        (b'Q', b"NQ."),
        (0x82, b"N\x82\x01."),
        (0x97, b"N\x97."),
        (0x8f, b"N\x8f."),
        (b'2', b"N2."),
    ] {
        let error = refused(pickle);
        assert!(
            matches!(error, ImportError::Instruction { code: found, .. } if found == code),
            "{error:?}"
        );
    }
    // A call of an object instead of a class.
    let called = refused(b"csklearn.svm._classes\nOneClassSVM\n)R)R.");
    assert!(
        matches!(called, ImportError::Malformed { at: 37, .. }),
        "{called:?}"
    );
}

#[test]
fn calls_of_what_is_allowed_are_not_made_either() {
    // In Python each of these allocates a terabyte.
    for call in [
        &b"c__builtin__\nbytes\n(I1099511627776\ntR"[..],
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1099511627776\ntVb\ntR",
        b"cnumpy\nndarray\n(I1099511627776\ntR",
    ] {
        let state = b"csklearn.svm._classes\nOneClassSVM\n)\x81}(V_sparse\nI00\nVkernel\nVlinear\nVsupport_vectors_\n";
        let error = refused(&[state, call, b"ub."].concat());
        assert!(
            error.to_string().contains("`support_vectors_` is not an array"),
            "{error}"
        );
    }
}

#[test]
fn lengths_are_checked_before_anything_is_allocated() {
    for pickle in [
        &b"X\xff\xff\xff\xffab"[..],
        b"B\xff\xff\xff\x7fab",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab",
        b"\x8e\0\0\0\0\0\0\0\x80ab",
        b"\x96\0\0\0\0\0\x10\0\0ab",
        b"\x95\xff\xff",
        b"\x8a\xffab",
        b"Vab",
    ] {
        assert_eq!(
            refused(pickle),
            ImportError::CutOff(pickle.len()),
            "{}",
            pickle.escape_ascii()
        );
    }
}

#[test]
fn depth_and_cycles_are_no_trouble() {
    let deep = |code: &[u8]| [b"N", &code.repeat(200_000)[..], b"."].concat();
    assert_eq!(refused(&deep(b"\x85")), ImportError::NotAModel("a tuple".into()));
    assert_eq!(refused(&deep(b"\x85\x85")), ImportError::TooLong);
    assert!(matches!(refused(&deep(b"(")), ImportError::Malformed { .. }));
    assert!(matches!(refused(&deep(b"]")), ImportError::Malformed { .. }));
    // A list inside itself, a pipeline that is its own step, and one that is its own state.
    assert_eq!(refused(b"]q\0h\0a."), ImportError::NotAModel("a list".into()));
    let own_step = refused(b"csklearn.pipeline\nPipeline\n)\x81q\0}Vsteps\n((Va\nh\0tlsb.");
    assert!(
        matches!(&own_step, ImportError::Step { found, .. } if found == "a Pipeline"),
        "{own_step:?}"
    );
    let own_state = refused(b"csklearn.pipeline\nPipeline\n)\x81q\0h\0b.");
    assert!(matches!(own_state, ImportError::Missing { .. }), "{own_state:?}");
    let own_class = refused(b"ccopyreg\n_reconstructor\n(lq\0(ccopyreg\n_reconstructor\ntR.");
    assert!(
        matches!(own_class, ImportError::Malformed { .. }),
        "{own_class:?}"
    );
}

#[test]
fn pipelines_that_hold_each_other_many_times_end() {
    // Forty times forty, six levels deep: four billion steps in 10 kB.
    let mut pickle = b"csklearn.pipeline\nPipeline\n)\x81}Vsteps\n(lsbp0\n0".to_vec();
    for level in 1..7 {
        let step = format!("(Va\ng{}\nt", level - 1).repeat(40);
        pickle.extend(b"csklearn.pipeline\nPipeline\n)\x81}Vsteps\n(");
        pickle.extend(format!("{step}lsbp{level}\n0").bytes());
    }
    pickle.extend(b"g6\n.");
    assert_eq!(refused(&pickle), ImportError::TooLong);
}

#[test]
fn a_file_past_the_limit_is_not_read() {
    let large = vec![b'N'; (64 << 20) + 1];
    assert_eq!(refused(&large), ImportError::TooLarge(large.len()));
    assert_eq!(refused(&large[..1 << 20]), ImportError::TooLong);
}

#[test]
fn a_pickle_cut_off_anywhere_is_refused() {
    for version in VERSIONS {
        for case in cases(version) {
            for protocol in &case.protocols {
                let pickle = case.pickle(version, *protocol);
                for length in 1..pickle.len() {
                    let error = import_modestly(&pickle[..length], case.features()).unwrap_err();
                    assert_eq!(error, ImportError::CutOff(length), "{} {protocol}", case.name);
                }
                let longer = [&pickle[..], b"\0"].concat();
                let error = import_modestly(&longer, case.features()).unwrap_err();
                assert!(matches!(error, ImportError::Trailing { .. }));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn changed_bytes_give_a_model_or_an_error(
        protocol in 0_u8..6,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let case = case("scaled-4d");
        let mut pickle = case.pickle(NEWEST, protocol);
        for (at, byte) in changes {
            let at = at.index(pickle.len());
            pickle[at] = byte;
        }
        let _ = import_modestly(&pickle, case.features());
    }

    #[test]
    fn parts_moved_about_give_a_model_or_an_error(
        protocol in 0_u8..6,
        from in any::<prop::sample::Index>(),
        length in 1_usize..60,
        to in any::<prop::sample::Index>(),
    ) {
        let case = case("scaled-4d");
        let mut pickle = case.pickle(NEWEST, protocol);
        let from = from.index(pickle.len());
        let part: Vec<u8> = pickle.drain(from..(from + length).min(pickle.len())).collect();
        let to = to.index(pickle.len());
        pickle.splice(to..to, part);
        let _ = import_modestly(&pickle, case.features());
    }

    #[test]
    fn any_bytes_give_an_error(
        pickle in proptest::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(&b"(.0}])tlduesabRNKqh\x81\x85\x86\x87\x93\x94"[..])],
            0..200,
        ),
    ) {
        prop_assert!(import_modestly(&pickle, features()).is_err());
    }
}

/// Files of each format: a name, and whether a file cut anywhere is an error.
const FORMATS: [(&str, bool); 12] = [
    ("sgd.joblib", true),
    ("pyod-forest.joblib", true),
    ("joblib-zlib", true),
    ("joblib-gzip", true),
    ("joblib-lz4", true),
    ("pickle-gzip", true),
    ("search.pkl", true),
    ("skops-pca.skops", true),
    ("onnx-svm.onnx", true),
    ("onnx-forest-scaled.onnx", true),
    // The last line may be cut in the middle of a number.
    ("libsvm-rbf.model", false),
    ("libsvm-poly.model", false),
];

/// Returns fifty damaged copies of a file: cut, with bytes changed, doubled, or without a part.
fn damaged(file: &[u8]) -> Vec<Vec<u8>> {
    let mut state = 7_u64;
    let mut below = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % most
    };
    (0..50)
        .map(|number| {
            let mut copy = file.to_vec();
            let at = below(file.len());
            match number % 5 {
                0 => copy.truncate(at),
                1 => copy[at] ^= 1 << below(8),
                2 => (0..8).for_each(|_| copy[below(file.len())] = below(256) as u8),
                3 => drop(copy.drain(at..(at + 40).min(file.len()))),
                // A number that is far too large, wherever a length may be.
                _ => copy.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0xff),
            }
            copy
        })
        .collect()
}

#[test]
fn fifty_damaged_files_of_each_format_are_refused_or_read_in_bounded_memory() {
    println!("file                     refused  read  most bytes allocated");
    for (name, cut_is_error) in FORMATS {
        let file = kind_file(NEWEST, name);
        let features: Features = "mean,std,min,max".parse().unwrap();
        let (mut refused, mut most) = (0, 0);
        for (number, copy) in damaged(&file).iter().enumerate() {
            let before = ALLOCATED.get();
            let result = import(copy, features.clone());
            most = most.max(ALLOCATED.get() - before);
            refused += usize::from(result.is_err());
            if let Err(error) = &result {
                let text = error.to_string();
                assert!(text.len() < 1_200 && !text.contains('\x1b'), "{text}");
            }
            if cut_is_error && number % 5 == 0 {
                assert!(result.is_err(), "{name}: cut to {} bytes", copy.len());
            }
        }
        println!("{name:<24} {refused:>7} {:>5}  {most}", 50 - refused);
        assert!(refused >= 10, "{name}: {refused}");
        // LZ4 has blocks of up to 4 MiB.
        assert!(most <= (16 << 20) + 300 * file.len(), "{name}: {most}");
    }
}

#[test]
fn what_unpacks_without_end_is_refused_at_the_limit() {
    let zeros = vec![0_u8; 1 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    for _ in 0..80 {
        gzip.write_all(&zeros).unwrap();
        zlib.write_all(&zeros).unwrap();
        lz4.write_all(&zeros).unwrap();
    }
    for bomb in [
        gzip.finish().unwrap(),
        zlib.finish().unwrap(),
        lz4.finish().unwrap(),
    ] {
        assert!(bomb.len() < 1 << 20);
        let before = ALLOCATED.get();
        assert_eq!(import(&bomb, features()), Err(ImportError::Unpacked));
        let allocated = ALLOCATED.get() - before;
        println!(
            "{} bytes that unpack to 80 MiB: {allocated} allocated",
            bomb.len()
        );
        // A buffer that doubles up to 128 MiB, and was copied on the way.
        assert!(allocated <= 300 << 20, "{allocated}");
    }
    let zip = zip(&vec![b' '; 80 << 20]);
    let before = ALLOCATED.get();
    assert_eq!(import(&zip, features()), Err(ImportError::Unpacked));
    let allocated = ALLOCATED.get() - before;
    println!("{} bytes with 80 MiB of JSON: {allocated} allocated", zip.len());
    assert!(allocated <= 100 << 20, "{allocated}");
}

/// Returns a ZIP archive with a deflated schema.json.
fn zip(schema: &[u8]) -> Vec<u8> {
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(schema).unwrap();
    let packed = deflate.finish().unwrap();
    // Version, flags, method, time, date, checksum and sizes, as both headers have them.
    let common = [
        &[20_u8, 0, 0, 0, 8, 0, 0, 0, 0, 0][..],
        &crc32fast::hash(schema).to_le_bytes(),
        &(packed.len() as u32).to_le_bytes(),
        &(schema.len() as u32).to_le_bytes(),
        &11_u16.to_le_bytes(),
        &[0; 2],
    ]
    .concat();
    let mut zip = [b"PK\x03\x04", &common[..], b"schema.json", &packed].concat();
    let directory = zip.len() as u32;
    zip.extend([b"PK\x01\x02\x14\0", &common[..], &[0; 14], b"schema.json"].concat());
    let length = zip.len() as u32 - directory;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend(length.to_le_bytes());
    zip.extend(directory.to_le_bytes());
    zip.extend([0; 2]);
    zip
}

//! Files that are renamed, replaced, rotated, cut and half uploaded, while they are followed and between runs.

use super::*;

/// What a run has saved of its partitions.
fn saved(source: &mut FileSource, logs: &[Log]) -> BTreeMap<String, Known> {
    let names = source.partitions().to_vec();
    let known = names
        .into_iter()
        .zip(logs)
        .enumerate()
        .map(|(index, (name, log))| {
            let resume = Offset(log.next);
            let content = source.content(index);
            (name, Known { resume, content })
        });
    known.collect()
}

/// Starts a run that knows what earlier ones have saved.
fn resume(path: &Path, until: Until, known: &BTreeMap<String, Known>) -> FileSource {
    let mut source = open(path, until);
    source.recognise(known.clone());
    for (index, name) in source.partitions().to_vec().iter().enumerate() {
        let resume = known.get(name).map_or(Offset(0), |known| known.resume);
        source.seek(index, resume).unwrap();
    }
    source
}

/// Returns what each partition has brought, by name.
fn values(source: &mut FileSource) -> Vec<(String, Vec<f64>)> {
    let logs = drain(source);
    let names = source.partitions().iter().cloned();
    let all = names.zip(logs.iter().map(Log::values));
    all.filter(|(_, values)| !values.is_empty()).collect()
}

/// Returns what each partition has brought after three looks: one to see a file, and two to see that nobody writes to it.
fn values_in_time(source: &mut FileSource) -> Vec<(String, Vec<f64>)> {
    (0..3).flat_map(|_| values(source)).collect()
}

fn named(name: &str, values: impl Into<Vec<f64>>) -> (String, Vec<f64>) {
    (name.to_owned(), values.into())
}

fn text(first: u32, count: u32) -> String {
    let rows = (first..first + count).map(|value| format!("{value},d,t,{value}\n"));
    format!("{HEADER}{}", rows.collect::<String>())
}

#[test]
fn a_file_that_is_cut_and_does_not_come_back_ends_at_last() {
    let (folder, path) = file("a.csv", text(1, 3));
    let mut source = open(folder.path(), Until::Stopped);
    drain(&mut source);
    fs::write(&path, "").unwrap();
    assert!(drain(&mut source).iter().all(|log| !log.ended));
    read_on_for_no_time(&mut source);
    assert!(drain(&mut source)[0].ended);
}

/// Makes files without a path end at once.
fn read_on_for_no_time(source: &mut FileSource) {
    for partition in &mut source.partitions {
        partition.watch.read_on_for = Duration::ZERO;
    }
}

#[test]
fn a_file_that_was_replaced_between_runs_is_read_from_its_start_as_another() {
    for until in [Until::CaughtUp, Until::Stopped] {
        let (folder, path) = file("a.csv", text(1, 3));
        let mut source = open(folder.path(), until);
        let logs = drain(&mut source);
        let known = saved(&mut source, &logs);
        // Of the same size, longer, and shorter.
        for (first, count) in [(4, 3), (4, 9), (4, 1)] {
            fs::write(&path, text(first, count)).unwrap();
            let mut source = resume(folder.path(), until, &known);
            let expected: Vec<_> = (first..first + count).map(f64::from).collect();
            // The shorter one may be all that there is yet of the one that was read, so a followed one has to stay the same.
            let found = values_in_time(&mut source);
            assert_eq!(found, [named("a.csv#2", expected)], "{first}, {count}");
        }
        // The next one is the third; what is put back goes on as the first.
        let mut source = resume(folder.path(), until, &known);
        values_in_time(&mut source);
        let logs = drain(&mut source);
        let mut both = saved(&mut source, &logs);
        both.extend(known.clone());
        fs::write(&path, text(7, 2)).unwrap();
        assert_eq!(
            values_in_time(&mut resume(folder.path(), until, &both)),
            [named("a.csv#3", [7.0, 8.0])]
        );
        fs::write(&path, text(1, 4)).unwrap();
        assert_eq!(
            values(&mut resume(folder.path(), until, &both)),
            [named("a.csv", [4.0])]
        );
    }
}

#[test]
fn a_file_that_was_renamed_between_runs_goes_on_under_its_old_name() {
    let (folder, path) = file("a.csv", text(1, 3));
    let mut source = open(folder.path(), Until::Stopped);
    let logs = drain(&mut source);
    let known = saved(&mut source, &logs);
    fs::rename(&path, folder.path().join("b.csv")).unwrap();
    append(&folder.path().join("b.csv"), "4,d,t,4\n");
    fs::write(&path, text(7, 1)).unwrap();
    // A copy that comes first by name does not take the place of the original.
    let mut source = resume(folder.path(), Until::Stopped, &known);
    assert_eq!(
        values(&mut source),
        [named("a.csv#2", [7.0]), named("a.csv", [4.0])]
    );
    fs::remove_file(&path).unwrap();
    fs::rename(folder.path().join("b.csv"), &path).unwrap();
    fs::copy(&path, folder.path().join("A copy.csv")).unwrap();
    let mut source = resume(folder.path(), Until::CaughtUp, &known);
    let expected = [named("A copy.csv", [1.0, 2.0, 3.0, 4.0]), named("a.csv", [4.0])];
    assert_eq!(values(&mut source), expected);
}

#[test]
fn compressed_and_parquet_files_are_told_apart_by_content_too() {
    let row = |value: f64| (1, "d".to_owned(), "t".to_owned(), value);
    let old = [
        ("a.csv.gz", gzip(text(1, 2).as_bytes())),
        ("b.parquet", columnar::parquet(&[row(1.0), row(2.0)])),
    ];
    let new = [
        ("a.csv.gz", gzip(text(3, 1).as_bytes())),
        ("b.parquet", columnar::parquet(&[row(3.0)])),
    ];
    for ((name, old), (_, new)) in old.into_iter().zip(new) {
        let (folder, path) = file(name, &old);
        let mut source = open(folder.path(), Until::CaughtUp);
        let logs = drain(&mut source);
        let known = saved(&mut source, &logs);
        assert_eq!(
            values(&mut resume(folder.path(), Until::CaughtUp, &known)),
            [],
            "{name}"
        );
        fs::rename(&path, folder.path().join(format!("z{name}"))).unwrap();
        assert_eq!(
            values(&mut resume(folder.path(), Until::CaughtUp, &known)),
            [],
            "{name}"
        );
        fs::write(&path, &new).unwrap();
        let expected = [named(&format!("{name}#2"), [3.0])];
        assert_eq!(
            values(&mut resume(folder.path(), Until::CaughtUp, &known)),
            expected
        );
    }
}

#[test]
fn a_log_that_is_rotated_is_read_to_its_end_and_so_is_the_next_one() {
    // The old file keeps an ending that is read, gets another, or is gone.
    for rotated in [Some("a-1.csv"), Some("a.csv.1"), None] {
        let (folder, path) = file("a.csv", text(1, 2));
        let mut source = open(folder.path(), Until::Stopped);
        assert_eq!(values(&mut source), [named("a.csv", [1.0, 2.0])]);
        let mut writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
        writer.write_all(b"3,d,t,3\n").unwrap();
        match rotated {
            Some(name) => fs::rename(&path, folder.path().join(name)).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        fs::write(&path, text(7, 1)).unwrap();
        // The writer has not noticed yet.
        writer.write_all(b"4,d,t,4\n5,d,t,5").unwrap();
        let mut found = values(&mut source);
        found.extend(values(&mut source));
        let expected = [named("a.csv", [3.0, 4.0]), named("a.csv#2", [7.0])];
        assert_eq!(found, expected, "{rotated:?}");
        append(&path, "8,d,t,8\n");
        assert_eq!(values(&mut source), [named("a.csv#2", [8.0])], "{rotated:?}");
        if rotated == Some("a-1.csv") {
            writer.write_all(b"\n6,d,t,6\n").unwrap();
            assert_eq!(values(&mut source), [named("a.csv", [5.0, 6.0])]);
            assert_eq!(source.partitions().len(), 2);
            continue;
        }
        read_on_for_no_time(&mut source);
        let mut logs = drain(&mut source);
        assert_eq!(
            (logs[0].values(), logs[0].ended),
            (vec![5.0], true),
            "{rotated:?}"
        );
        append(&path, "9,d,t,9\n");
        logs = drain(&mut source);
        assert_eq!(logs[1].values(), [9.0], "{rotated:?}");
    }
}

#[test]
fn a_file_that_is_renamed_while_it_is_followed_is_one_partition() {
    let (folder, path) = file("a.csv", text(1, 2));
    let mut source = open(folder.path(), Until::Stopped);
    drain(&mut source);
    // Before and after the other in the order of names.
    for name in ["b.csv", "0.csv"] {
        let other = folder.path().join(name);
        fs::rename(&path, &other).unwrap();
        append(&other, "3,d,t,3\n");
        let mut found = values(&mut source);
        found.extend(values(&mut source));
        assert_eq!(found, [named("a.csv", [3.0])]);
        fs::rename(&other, &path).unwrap();
        assert_eq!(values(&mut source), []);
    }
    assert_eq!(source.partitions(), ["a.csv"]);
}

#[test]
fn a_file_that_is_cut_while_it_is_followed_is_read_again_from_its_start() {
    let (folder, path) = file("a.csv", text(1, 3));
    for path in [folder.path(), &path] {
        fs::write(folder.path().join("a.csv"), text(1, 3)).unwrap();
        let mut source = open(path, Until::Stopped);
        drain(&mut source);
        // Shorter than before, and longer again before anyone looked.
        for (first, count) in [(4, 1), (5, 9)] {
            fs::write(folder.path().join("a.csv"), text(first, count)).unwrap();
            let known = source.partitions().len();
            let mut logs = drain(&mut source);
            // The start of a file may be all that there is yet of the one that was read, so the size has to stay the same.
            while source.partitions().len() == known {
                assert!(logs.iter().all(|log| !log.ended));
                logs = drain(&mut source);
            }
            let (last, before) = logs.split_last().unwrap();
            let expected: Vec<_> = (first..first + count).map(f64::from).collect();
            assert_eq!(last.values(), expected);
            assert!(before.last().unwrap().ended);
        }
        assert_eq!(source.partitions(), ["a.csv", "a.csv#2", "a.csv#3"]);
    }
}

#[test]
fn a_file_that_is_written_anew_with_more_rows_goes_on() {
    let (folder, path) = file("a.csv", text(1, 3));
    let mut source = open(folder.path(), Until::Stopped);
    drain(&mut source);
    fs::write(folder.path().join(".new"), text(1, 5)).unwrap();
    fs::rename(folder.path().join(".new"), &path).unwrap();
    let mut found = values(&mut source);
    found.extend(values(&mut source));
    assert_eq!(found, [named("a.csv", [4.0, 5.0])]);
}

#[test]
fn a_file_that_was_gone_for_long_or_was_half_there_goes_on() {
    let (folder, path) = file("a.csv", text(1, 3));
    let half = gzip(text(1, 3_000).as_bytes());
    let packed = folder.path().join("b.csv.gz");
    fs::write(&packed, &half[..half.len() / 2]).unwrap();
    written_long_ago(&packed);
    let mut source = open(folder.path(), Until::Stopped);
    read_on_for_no_time(&mut source);
    let mut found: Vec<f64> = drain(&mut source)[1].values();
    let away = folder.path().join("a.old");
    fs::rename(&path, &away).unwrap();
    let ends = |source: &mut FileSource| (0..3).any(|_| drain(source)[0].ended);
    assert!(ends(&mut source));
    fs::rename(&away, &path).unwrap();
    append(&path, "4,d,t,4\n");
    fs::write(&packed, &half).unwrap();
    let mut rest = values(&mut source);
    rest.extend(values(&mut source));
    let rest: BTreeMap<_, _> = rest.into_iter().collect();
    assert_eq!(rest["a.csv"], [4.0]);
    found.extend(&rest["b.csv.gz"]);
    assert!(found.into_iter().eq((1..=3_000).map(f64::from)));
    assert_eq!(source.partitions().len(), 2);
    // A whole one that is renamed is not read again.
    fs::rename(&packed, folder.path().join("c.csv.gz")).unwrap();
    append(&path, "5,d,t,5\n");
    let mut rest = values(&mut source);
    rest.extend(values(&mut source));
    assert_eq!(rest, [named("a.csv", [5.0])]);
    assert_eq!(source.partitions().len(), 2);
}

#[test]
fn a_file_that_comes_back_is_recognised() {
    let (folder, path) = file("a.csv", text(1, 3));
    let mut source = open(folder.path(), Until::Stopped);
    let logs = drain(&mut source);
    let known = saved(&mut source, &logs);
    let away = tempfile::tempdir().unwrap();
    let kept = away.path().join("a.csv");
    fs::rename(&path, &kept).unwrap();
    let mut source = resume(folder.path(), Until::Stopped, &known);
    assert_eq!(values(&mut source), []);
    append(&kept, "4,d,t,4\n");
    fs::copy(&kept, folder.path().join("c.csv")).unwrap();
    assert_eq!(values(&mut source), [named("a.csv", [4.0])]);
}

#[test]
fn a_file_is_left_alone_until_it_is_whole_or_nobody_writes_to_it() {
    let row = |value: f64| (1, "d".to_owned(), "t".to_owned(), value);
    let many: Vec<_> = (0..100).map(|at| row(f64::from(at))).collect();
    for (name, whole) in [
        ("a.csv.gz", gzip(text(0, 100).as_bytes())),
        ("a.csv.zst", zstd(text(0, 100).as_bytes())),
        ("a.parquet", columnar::parquet(&many)),
    ] {
        let half = &whole[..whole.len() - 5];
        // It turns up while the folder is followed, or is there at the start.
        for at_start in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            let mut source = (!at_start).then(|| open(folder.path(), Until::Stopped));
            fs::write(&path, half).unwrap();
            let source = source.get_or_insert_with(|| open(folder.path(), Until::Stopped));
            for _ in 0..5 {
                assert_eq!(drain(source).len(), 0, "{name}");
            }
            fs::write(&path, &whole).unwrap();
            assert_eq!(drain(source).len(), 0, "{name}");
            assert_eq!(drain(source)[0].values().len(), 100, "{name}");
        }
        // A run to the end leaves it to the next one, and refuses it if there is nothing else.
        let (folder, path) = file(name, half);
        assert_eq!(open(folder.path(), Until::CaughtUp).partitions().len(), 0);
        let refused = FileSource::open(&path, &any_epoch(), Until::CaughtUp);
        let refused = refused.err().unwrap().to_string();
        assert!(refused.contains("it is not whole"), "{refused}");
        // Once nobody writes to it any more, it is read as it is.
        written_long_ago(&path);
        let read = FileSource::open(&path, &any_epoch(), Until::CaughtUp);
        let refused = read.err().map(|error| error.to_string()).unwrap_or_default();
        match name {
            "a.parquet" => assert!(refused.contains("not a readable Parquet file"), "{refused}"),
            // Its only block is not whole.
            "a.csv.zst" => assert!(refused.contains("incomplete frame"), "{refused}"),
            _ => assert_eq!(read_from(&path, 0).unreadable.len(), 1),
        }
    }
}

#[test]
fn a_file_that_is_written_once_more_in_place_goes_on() {
    // Someone looks while it is empty, while a part of it is there, or only at the end.
    for looks in [[false, false], [true, false], [false, true], [true, true]] {
        let (folder, path) = file("a.csv", text(1, 3));
        let mut source = open(folder.path(), Until::Stopped);
        drain(&mut source);
        let mut found = Vec::new();
        let mut ended = false;
        for (part, looks) in [String::new(), text(1, 2)].iter().zip(looks) {
            fs::write(&path, part).unwrap();
            if looks {
                source.folder.scan_every = Duration::from_secs(3_600);
                ended |= drain(&mut source)[0].ended;
                source.folder.scan_every = Duration::ZERO;
                let mut batch = Batch::default();
                let read = source.read(&mut SensorTable::new(), &mut batch).unwrap();
                assert_ne!(read, Read::Batch, "{looks:?}: {batch:?}");
            }
        }
        // Otherwise the windows of all other files would no longer wait for what comes back.
        assert!(!ended, "{looks:?}");
        fs::write(&path, text(1, 4)).unwrap();
        for _ in 0..3 {
            found.extend(values(&mut source));
        }
        assert_eq!(found, [named("a.csv", [4.0])], "{looks:?}");
        append(&path, "5,d,t,5\n");
        assert_eq!(values(&mut source), [named("a.csv", [5.0])], "{looks:?}");
        assert_eq!(source.partitions(), ["a.csv"]);
        // It may be empty when the next run begins.
        let logs = drain(&mut source);
        let mut known = saved(&mut source, &logs);
        let judged = text(1, 5).len() as u64;
        known.get_mut("a.csv").unwrap().resume = Offset(judged);
        fs::write(&path, "").unwrap();
        let mut source = resume(folder.path(), Until::Stopped, &known);
        assert_eq!(values(&mut source), []);
        fs::write(&path, text(1, 6)).unwrap();
        assert_eq!(values(&mut source), [named("a.csv", [6.0])]);
    }
}

#[test]
fn a_file_that_is_written_once_more_when_a_run_begins_goes_on() {
    let (folder, path) = file("a.csv", text(1, 3));
    let mut source = open(folder.path(), Until::Stopped);
    let logs = drain(&mut source);
    let known = saved(&mut source, &logs);
    fs::rename(&path, folder.path().join("b.csv")).unwrap();
    let path = folder.path().join("b.csv");
    for part in [String::new(), text(1, 2)] {
        // Before the run lists the folder, and between that and its look at the files.
        for is_cut_first in [true, false] {
            let content = if is_cut_first { &part } else { &text(1, 3) };
            fs::write(&path, content).unwrap();
            let mut source = open(folder.path(), Until::Stopped);
            fs::write(&path, &part).unwrap();
            source.recognise(known.clone());
            assert_eq!(values(&mut source), []);
            fs::write(&path, text(1, 4)).unwrap();
            assert_eq!(values(&mut source), [named("a.csv", [4.0])]);
        }
    }
}

#[test]
fn a_file_that_is_copied_and_cut_is_read_to_its_end_and_so_is_the_next_one() {
    let (folder, path) = file("a.csv", text(1, 2));
    let mut source = open(folder.path(), Until::Stopped);
    drain(&mut source);
    append(&path, "3,d,t,3\n");
    fs::copy(&path, folder.path().join("a-1.csv")).unwrap();
    fs::write(&path, text(7, 1)).unwrap();
    let mut found = values_in_time(&mut source);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, [named("a.csv", [3.0]), named("a.csv#2", [7.0])]);
}

#[test]
fn a_file_that_gets_the_id_of_one_before_is_another() {
    // Nobody holds the file open when its content is gone, or its copy is.
    for is_held in [false, true] {
        let (folder, path) = file("a.csv", text(1, 3));
        let mut source = open(folder.path(), Until::Stopped);
        drain(&mut source);
        source.partitions[0].file.handle = None;
        if is_held {
            fs::copy(&path, folder.path().join("copy")).unwrap();
            fs::rename(folder.path().join("copy"), &path).unwrap();
            source.keep_open(0);
        }
        append(&path, "4,d,t,4\n");
        fs::rename(&path, folder.path().join("b.csv")).unwrap();
        fs::write(&path, text(7, 1)).unwrap();
        if !is_held {
            // As file systems do when the last name of a file is gone. It was found to have grown, and is not open yet.
            let partition = &mut source.partitions[0];
            partition.id = file_id::get_file_id(&path).ok();
            partition.state = partition::State::Closed;
        }
        let held = file_id::get_file_id(folder.path().join("b.csv")).ok();
        assert_eq!(source.partitions[0].id == held, is_held);
        let mut found = values_in_time(&mut source);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, [named("a.csv", [4.0]), named("a.csv#2", [7.0])]);
    }
}

//! Files that grow and folders that fill up.

use super::*;

#[test]
fn half_a_line_waits_for_its_other_half() {
    let (_folder, path) = file("a.csv", "ts,dev");
    let mut source = open(&path, Until::Stopped);
    assert!(drain(&mut source)[0].readings.is_empty());
    append(&path, "ice,tag,value\n1,d,t,1\n2,d,t,2");
    assert_eq!(drain(&mut source)[0].values(), [1.0]);
    append(&path, "5\n");
    let log = drain(&mut source).remove(0);
    assert_eq!((log.values(), log.ended), (vec![25.0], false));
    assert!(drain(&mut source)[0].readings.is_empty());
}

#[test]
fn files_that_turn_up_in_a_followed_folder_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = open(folder.path(), Until::Stopped);
    assert!(drain(&mut source).is_empty());
    append(&folder.path().join("b.csv"), format!("{HEADER}1,d,t,1\n"));
    append(&folder.path().join(".c.csv"), format!("{HEADER}1,d,t,9\n"));
    assert_eq!(drain(&mut source)[0].values(), [1.0]);
    append(&folder.path().join("a.csv"), format!("{HEADER}1,d,t,2\n"));
    append(&folder.path().join("b.csv"), "2,d,t,3\n");
    let logs = drain(&mut source);
    assert_eq!(source.partitions(), ["b.csv", "a.csv"]);
    assert_eq!((logs[0].values(), logs[1].values()), (vec![3.0], vec![2.0]));
}

#[test]
fn a_compressed_file_is_left_alone_until_it_has_stopped_growing() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = open(folder.path(), Until::Stopped);
    let whole = gzip(format!("{HEADER}1,d,t,1\n").as_bytes());
    let path = folder.path().join("a.csv.gz");
    fs::write(&path, &whole[..10]).unwrap();
    assert!(drain(&mut source).is_empty());
    fs::write(&path, &whole).unwrap();
    assert!(drain(&mut source).is_empty());
    let log = drain(&mut source).remove(0);
    assert_eq!((log.values(), log.ended), (vec![1.0], true));
}

#[test]
fn a_file_that_disappears_before_it_is_whole_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = open(folder.path(), Until::Stopped);
    let path = folder.path().join("a.csv.gz");
    fs::write(&path, &gzip(HEADER.as_bytes())[..10]).unwrap();
    assert!(drain(&mut source).is_empty());
    assert_eq!(source.folder.unsettled.len(), 1);
    fs::remove_file(&path).unwrap();
    assert!(drain(&mut source).is_empty());
    assert!(source.folder.unsettled.is_empty());
}

#[test]
fn a_useless_file_that_turns_up_is_told_of_once_and_stops_nobody() {
    let (folder, path) = file("a.csv", format!("{HEADER}1,d,t,1\n"));
    let mut source = open(folder.path(), Until::Stopped);
    fs::write(folder.path().join("b.csv"), "some,thing,else\n1,2,3\n").unwrap();
    fs::write(folder.path().join("c.csv.gz"), "no gzip").unwrap();
    let logs = drain(&mut source);
    assert_eq!(source.partitions(), ["a.csv", "b.csv", "c.csv.gz"]);
    assert_eq!(logs[0].values(), [1.0]);
    for (log, why) in logs[1..]
        .iter()
        .zip(["b.csv: no column `ts", "c.csv.gz: cannot read"])
    {
        let [bad] = &log.unreadable[..] else {
            panic!("{log:?}")
        };
        assert!(bad.detail.contains(why), "{}", bad.detail);
        assert!(log.ended);
    }
    append(&path, "2,d,t,2\n");
    let logs = drain(&mut source);
    assert_eq!(logs[0].values(), [2.0]);
    assert!(logs.iter().all(|log| log.unreadable.is_empty()));

    // What did not stop the run does not stop the next one either, wherever the checkpoint stands.
    let mut source = open(folder.path(), Until::Stopped);
    for partition in 0..3 {
        source.seek(partition, Offset(0)).unwrap();
    }
    let logs = drain(&mut source);
    assert_eq!(logs[0].values(), [1.0, 2.0]);
    assert_eq!((logs[1].unreadable.len(), logs[2].unreadable.len()), (1, 1));
    // A folder without a file that can be used is a mistake at first, and later one whose files are in an archive.
    fs::remove_file(&path).unwrap();
    let mut source = open(folder.path(), Until::Stopped);
    source.recognise(BTreeMap::new());
    let error = source.read(&mut SensorTable::new(), &mut Batch::default());
    assert!(matches!(error, Err(SourceError::MissingColumn { .. })));
    let mut source = open(folder.path(), Until::Stopped);
    let read_before = Known {
        resume: Offset(40),
        content: None,
    };
    source.recognise([("a.csv".to_owned(), read_before)].into());
    assert!(drain(&mut source).iter().all(|log| log.unreadable.len() == 1));
    append(&folder.path().join("d.csv"), format!("{HEADER}3,d,t,3\n"));
    assert_eq!(drain(&mut source).pop().unwrap().values(), [3.0]);
}

#[test]
fn a_checkpoint_past_the_end_of_a_file_is_refused() {
    for (name, bytes) in [("a.csv", HEADER.into()), ("a.csv.gz", gzip(HEADER.as_bytes()))] {
        let (_folder, path) = file(name, bytes);
        let mut source = open(&path, Until::CaughtUp);
        let sought = source.seek(0, Offset(36));
        let read = source.read(&mut SensorTable::new(), &mut Batch::default());
        assert!(
            matches!(sought.and(read.map(|_| ())), Err(SourceError::Shrunk { .. })),
            "{name}"
        );
    }
}

//! Dead letters are kept with their reason until someone replays or purges them, and the audit counts them.

use windrow_tests::{fleet, models_for, windrow, write_csv};

use super::{audited, text};

#[test]
fn dead_letters_are_kept_replayed_and_purged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Only two of the five devices have models.
    write_csv(&path("two.csv"), &fleet(2, 600, 6));
    write_csv(&path("five.csv"), &fleet(5, 600, 6));
    let (two, five, store) = (path("two.csv"), path("five.csv"), path("store"));
    let store = text(&store);
    models_for(text(&two), store);
    let words = [
        "run",
        "--source",
        text(&five),
        "--store",
        store,
        "--until-caught-up",
    ];
    let counts = windrow(&words).json();
    assert_eq!(
        (&counts["predictions"], &counts["dead_letters"]),
        (&20.into(), &30.into())
    );
    let audit = audited(store);
    assert_eq!((&audit["dead_lettered"], &audit["lost"]), (&30.into(), &0.into()));

    let list =
        |more: &[&str]| windrow(&[&["dead-letters", "list", "--store", store][..], more].concat()).json();
    let letters = list(&["--reason", "no-model"]);
    assert_eq!(letters.as_array().unwrap().len(), 30);
    assert_eq!(list(&["--reason", "undecodable"]).as_array().unwrap().len(), 0);
    assert_eq!(list(&["--sensor", "d3/temp"]).as_array().unwrap().len(), 10);
    let id = letters[0]["id"].as_str().unwrap();
    let shown = windrow(&["dead-letters", "show", "--store", store, id]).json();
    assert_eq!(shown["aggregates"].as_array().unwrap().len(), 1, "{shown}");

    // The models are still missing: a replay says so and keeps every dead letter.
    let replay = ["dead-letters", "replay", "--store", store];
    let (code, _, error) = windrow(&[&replay[..], &["--sensor", "d3/temp"]].concat()).end();
    assert!(code == 1 && error.contains("10 messages"), "{code} {error}");
    assert_eq!(list(&[]).as_array().unwrap().len(), 30);

    models_for(text(&five), store);
    let said = windrow(&[&replay[..], &["--sensor", "d3/temp"]].concat()).output();
    assert_eq!(said, "replayed 10: 10 scored, 0 dead again\n");
    assert_eq!(audited(store)["dead_lettered"], 20);

    let purge = ["dead-letters", "purge", "--store", store, "--sensor", "d4/temp"];
    windrow(&purge).output();
    assert_eq!(
        list(&[]).as_array().unwrap().len(),
        20,
        "without --yes nothing is deleted"
    );
    windrow(&[&purge[..], &["--yes"]].concat()).output();
    assert_eq!(list(&[]).as_array().unwrap().len(), 10);
    let (code, _, error) = windrow(&["audit", "--store", store]).end();
    assert!(code == 3 && error.contains("10 lost"), "{code} {error}");
}

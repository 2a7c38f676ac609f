//! The price table: what a unit of each service costs in a region, when that was seen, and where.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use windrow_common::EventTime;

use super::CostError;

/// The table that comes with the program. Its dates say how old it is.
const BUILT_IN: &str = include_str!("prices.csv");
/// Largest table that is read from a file.
const MAX_BYTES: u64 = 1 << 20;
/// Highest price of a unit. A higher one is a mistake.
const MAX_PRICE: f64 = 1e6;

/// Whether a price was seen or is a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Basis {
    /// The source lists it.
    Listed,
    /// Nobody lists it; the note says what it follows from.
    Assumed,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Price {
    /// What is paid for, such as `vm/Standard_D2as_v5`.
    pub(crate) item: String,
    /// The region, such as `eastus`.
    pub(crate) region: String,
    /// What the price is of.
    pub(crate) unit: String,
    /// US dollars per unit.
    pub(crate) price_usd: f64,
    /// When it was seen, as a date.
    pub(crate) date: String,
    pub(crate) basis: Basis,
    /// Where it was seen.
    pub(crate) source: String,
    /// What else a reader has to know.
    #[serde(default)]
    pub(crate) note: String,
}

/// Prices by item and region.
#[derive(Clone, Debug)]
pub(crate) struct Prices {
    rows: Vec<Price>,
}

impl Prices {
    /// Returns the table that comes with the program.
    pub(crate) fn built_in() -> Result<Self, CostError> {
        Ok(Self {
            rows: parse("the built-in price table", BUILT_IN)?,
        })
    }

    /// Returns the built-in table with the rows of a file added. A row of the file replaces the one of the same item and
    /// region.
    pub(crate) fn with_file(file: Option<&Path>) -> Result<Self, CostError> {
        let mut prices = Self::built_in()?;
        let Some(file) = file else {
            return Ok(prices);
        };
        let name = file.display().to_string();
        let rows = parse(&name, &read(file, &name)?)?;
        prices
            .rows
            .retain(|old| !rows.iter().any(|new| is_same(old, new)));
        prices.rows.extend(rows);
        Ok(prices)
    }

    /// Returns the price of an item in a region.
    pub(crate) fn of(&self, item: &str, region: &str) -> Result<&Price, CostError> {
        let of_item = || self.rows.iter().filter(|price| price.item == item);
        if let Some(price) = of_item().find(|price| price.region == region) {
            return Ok(price);
        }
        let known: Vec<_> = of_item().map(|price| price.region.as_str()).collect();
        Err(CostError::NoPrice {
            item: item.to_owned(),
            region: region.to_owned(),
            known: match known.is_empty() {
                true => "no region".to_owned(),
                false => known.join(", "),
            },
        })
    }
}

fn is_same(a: &Price, b: &Price) -> bool {
    a.item == b.item && a.region == b.region
}

fn read(file: &Path, name: &str) -> Result<String, CostError> {
    let wrong = |why: String| CostError::Table {
        table: name.to_owned(),
        why,
    };
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(wrong("it has more than 1 MiB".to_owned())),
        false => Ok(text),
    }
}

fn parse(table: &str, text: &str) -> Result<Vec<Price>, CostError> {
    let wrong = |why: String| CostError::Table {
        table: table.to_owned(),
        why,
    };
    let mut rows: Vec<Price> = Vec::new();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader
        .headers()
        .map_err(|error| wrong(error.to_string()))?
        .clone();
    let mut record = csv::StringRecord::new();
    while reader
        .read_record(&mut record)
        .map_err(|error| wrong(error.to_string()))?
    {
        let line = record.position().map_or(0, csv::Position::line);
        let price: Price = record
            .deserialize(Some(&header))
            .map_err(|error| wrong(format!("line {line}: {error}")))?;
        check(&price).map_err(|why| wrong(format!("line {line}: {why}")))?;
        if rows.iter().any(|other| is_same(other, &price)) {
            return Err(wrong(format!(
                "line {line}: {} in {} has a price already",
                price.item, price.region
            )));
        }
        rows.push(price);
    }
    match rows.is_empty() {
        true => Err(wrong("it has no row".to_owned())),
        false => Ok(rows),
    }
}

/// Checks what would make a bill wrong without anyone noticing, such as a price per million where one per ten thousand
/// is expected.
fn check(price: &Price) -> Result<(), String> {
    let Price {
        item,
        price_usd,
        date,
        source,
        ..
    } = price;
    let unit = match item.as_str() {
        "event-hubs/throughput-unit" => "hour",
        "event-hubs/events" => "1000000",
        "blob/reads" | "blob/writes" => "10000",
        "blob/capacity" => "GB-month",
        vm if vm.starts_with("vm/") || vm.starts_with("vm-spot/") => "hour",
        _ => {
            return Err(format!(
                "`{item}` is no item; there are vm/SIZE, vm-spot/SIZE, event-hubs/throughput-unit, event-hubs/events, \
                 blob/reads, blob/writes and blob/capacity"
            ));
        }
    };
    if price.unit != unit {
        return Err(format!(
            "the unit of {item} is {unit}, not `{}`; convert the price",
            price.unit
        ));
    }
    if !(0.0..=MAX_PRICE).contains(price_usd) {
        return Err(format!("{price_usd} is no price in US dollars"));
    }
    if date.len() != 10 || format!("{date}T00:00:00Z").parse::<EventTime>().is_err() {
        return Err(format!("`{date}` is no date such as 2026-11-29"));
    }
    if price.region.is_empty() || source.trim().is_empty() {
        return Err(format!("{item} needs a region and a source"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "item,region,unit,price_usd,date,basis,source,note";

    fn refused(row: &str) -> String {
        parse("mine.csv", &format!("{HEADER}\n{row}\n"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_built_in_price_has_a_date_and_a_source_and_a_guess_says_what_it_follows_from() {
        let prices = Prices::built_in().unwrap();
        assert!(prices.rows.len() > 20);
        for price in &prices.rows {
            assert!(price.date.starts_with("2026-"), "{price:?}");
            assert!(price.source.starts_with("https://"), "{price:?}");
            assert!(!price.note.is_empty(), "{price:?}");
        }
        for region in ["eastus", "westeurope"] {
            let spot = prices.of("vm-spot/Standard_D4ads_v5", region).unwrap();
            let regular = prices.of("vm/Standard_D4ads_v5", region).unwrap();
            assert_eq!(spot.basis, Basis::Assumed);
            assert!((spot.price_usd / regular.price_usd - 0.211).abs() < 0.001);
        }
    }

    #[test]
    fn a_row_that_would_make_a_bill_wrong_is_refused_with_its_line() {
        for (row, said) in [
            (
                "blob/reads,eastus,1000000,0.4,2026-01-01,listed,s,",
                "line 2: the unit of blob/reads is 10000",
            ),
            ("vm/X1,eastus,hour,-1,2026-01-01,listed,s,", "-1 is no price"),
            ("vm/X1,eastus,hour,NaN,2026-01-01,listed,s,", "NaN is no price"),
            ("vm/X1,eastus,hour,1,yesterday,listed,s,", "no date"),
            (
                "vm/X1,eastus,hour,1,2026-01-01,listed,,",
                "needs a region and a source",
            ),
            ("vm/X1,eastus,hour,1,2026-01-01,guessed,s,", "line 2"),
            ("gpu/X1,eastus,hour,1,2026-01-01,listed,s,", "is no item"),
            (
                "vm/X1,a,hour,1,2026-01-01,listed,s,\nvm/X1,a,hour,2,2026-01-01,listed,s,",
                "line 3: vm/X1 in a has a price already",
            ),
            ("", "no row"),
        ] {
            let error = refused(row);
            assert!(
                error.contains(said) && error.contains("mine.csv"),
                "{row}: {error}"
            );
        }
    }

    #[test]
    fn a_file_replaces_rows_and_leaves_the_others() {
        let folder = std::env::temp_dir().join(format!("windrow-prices-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("mine.csv");
        std::fs::write(
            &file,
            format!("{HEADER}\nblob/reads,eastus,10000,1.5,2026-11-01,listed,contract 7,\n"),
        )
        .unwrap();
        let prices = Prices::with_file(Some(&file)).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(prices.of("blob/reads", "eastus").unwrap().price_usd, 1.5);
        assert_eq!(prices.of("blob/writes", "eastus").unwrap().price_usd, 0.05);
        let error = prices.of("blob/writes", "mars").unwrap_err().to_string();
        assert!(
            error.contains("eastus, westeurope") && error.contains("--prices"),
            "{error}"
        );
        let missing = Prices::with_file(Some(&file)).unwrap_err().to_string();
        assert!(missing.contains("mine.csv"), "{missing}");
    }
}

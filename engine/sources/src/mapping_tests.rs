//! What mappings accept, and how each misfit is refused.

use super::*;
use crate::tests::stream;

fn bind(map: &str, set: &str, attributes: Option<&str>, names: &[&str]) -> Result<Plan, String> {
    let spec = MappingSpec::parse(&[map.to_owned()], &[set.to_owned()], attributes).map_err(|e| e.to_string())?;
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let source = SourceNames { names: &names, complete: true };
    Plan::bind(&spec, &stream(), &source).map_err(|error| error.to_string())
}

#[test]
fn what_cannot_be_meant_is_refused() {
    const FILE: &[&str] = &["timestamp", "status", "TX_AMOUNT", "x", "x"];
    for (map, set, attributes, message) in [
        ("occurred_at", "", None, "--map: `occurred_at` is not of the form target=value"),
        ("occurred_at=", "", None, "--map: `occurred_at=` is not of the form"),
        ("", "=5", None, "--set: `=5` is not of the form"),
        ("ocurred_at=timestamp", "", None, "no column `ocurred_at` to fill; did you mean `occurred_at`?"),
        ("occurred_at=timestam", "", None, "the file has no column `timestam`; did you mean `timestamp`?"),
        ("occurred_at=zzzzzzzzz", "", None, "the file has no column `zzzzzzzzz`"),
        ("occurred_at=timestamp,status=x", "", None, "the file has 2 columns named `x`"),
        ("occurred_at=timestamp,status=status", "status=denied", None, "`status` is filled twice"),
        ("", "status=denied", None, "nothing fills the required column `occurred_at`"),
        ("occurred_at=timestamp,amount=TX_AMOUNT", "", None, "an amount in major units needs its currency"),
        (
            "occurred_at=timestamp,amount=TX_AMOUNT,amount_minor=TX_AMOUNT",
            "",
            None,
            "the same column in different units",
        ),
        ("occurred_at=timestamp", "", Some("TX_AMOUNTS"), "no column `TX_AMOUNTS`; did you mean `TX_AMOUNT`?"),
        ("occurred_at=timestamp", "", Some("rest"), "the file has 2 columns named `x`"),
    ] {
        let error = bind(map, set, attributes, FILE).expect_err(message);
        assert!(error.contains(message), "{map} {set}: {error}");
    }
}

#[test]
fn identical_names_map_by_themselves_and_the_rest_is_named_once() {
    let plan = bind("occurred_at=timestamp", "count=3", None, &["timestamp", "status", "count", "zip"]).unwrap();
    assert_eq!(plan.wanted, ["timestamp", "status"]);
    assert_eq!(plan.fills[1], Fill::From(Origin::Slot(0)));
    assert_eq!(plan.fills[13], Fill::From(Origin::Constant("3".to_owned())));
    assert_eq!(plan.notices, ["not used: `count`, `zip` (--attributes rest keeps them in the attributes)"]);
}

#[test]
fn the_rest_can_become_attributes() {
    let plan = bind("occurred_at=timestamp", "", Some("rest"), &["timestamp", "status", "zip", "mcc"]).unwrap();
    let columns = vec![("zip".to_owned(), 2), ("mcc".to_owned(), 3)];
    assert_eq!(plan.fills[14], Fill::Attributes { map: None, columns, rest: false });
    assert!(plan.notices.is_empty());
}

#[test]
fn an_amount_without_currency_is_left_out_aloud() {
    let plan = bind("", "", None, &["occurred_at", "status", "amount"]).unwrap();
    assert_eq!(plan.fills[8], Fill::Absent);
    assert!(plan.notices[0].contains("`amount` is left out"), "{:?}", plan.notices);
    let plan = bind("", "currency=JPY", None, &["occurred_at", "status", "amount"]).unwrap();
    assert!(matches!(plan.fills[8], Fill::Amount { currency: 9, .. }));
}

#[test]
fn one_mapping_has_one_name() {
    let spec = |map: &[&str]| {
        let map: Vec<String> = map.iter().map(|text| (*text).to_owned()).collect();
        MappingSpec::parse(&map, &[], None).unwrap().canonical()
    };
    assert_eq!(spec(&["a=b,c=d"]), spec(&["c=d", "a=b"]));
    assert_ne!(spec(&["a=b"]), spec(&["a=c"]));
}

//! A measurement, not a test: `cargo test --release -p tidewatch-log speed -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "measures")]
fn speed_of_the_codec() {
    let (schema, schemas) = (payments(), schemas());
    let record = events(batch(&schema, 1_000, 0.1, &mut rng()));
    let bytes = encoded(&record);
    let rounds = 5_000;
    println!("{} bytes an event", bytes.payload().len() / 1_000);
    let begun = Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(encoded(std::hint::black_box(&record)));
    }
    println!("encode: {:.1} M events/s", f64::from(rounds) / 1_000.0 / begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(Record::decode(1, 1, std::hint::black_box(bytes.payload()), &schemas).unwrap());
    }
    println!("decode: {:.1} M events/s", f64::from(rounds) / 1_000.0 / begun.elapsed().as_secs_f64());
}

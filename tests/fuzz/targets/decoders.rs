//! The first byte says which decoder gets the others.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vecino::internals::decoders;

const ALL: [fn(&[u8]); 8] = [
    decoders::entry,
    decoders::settings,
    decoders::stored_filter,
    decoders::stored_payload,
    decoders::index_name,
    decoders::vector,
    decoders::json_filter,
    decoders::json_payload,
];

fuzz_target!(|input: &[u8]| {
    if let [which, rest @ ..] = input {
        ALL[*which as usize % ALL.len()](rest);
    }
});

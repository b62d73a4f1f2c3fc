//! What codes lose: the mean squared distance of rows from what their codes
//! stand for, to be compared with other libraries at the same parameters.
//!
//! `cargo bench --features internals --bench reconstruction -- [DIR] [--quick]`
//!
//! DIR holds `base.fvecs`, `query.fvecs` and `metric`; without it the rows are
//! synthetic. One JSON line for each kind of codes.

mod common;

use common::{Arguments, Data};
use vecino::internals::codes::{Codes, reconstruction_error};

#[expect(clippy::print_stdout, reason = "the report is the product")]
fn main() -> std::io::Result<()> {
    let arguments = Arguments::read();
    let rows = if arguments.has("--quick") { 2_000 } else { 20_000 };
    let synthetic = || Ok(Data::clustered(rows, 64, 1));
    let data = arguments.folder().map_or_else(synthetic, Data::read)?;
    let (rows, dim) = (&data.base.values, data.base.dim);
    let product = |num_subquantizers, bits_per_code| Codes::Product { num_subquantizers, bits_per_code };
    let mut all = vec![("SQfp16".to_owned(), Codes::Half), ("SQ8".to_owned(), Codes::Bytes)];
    for (numbers, bits) in [(8, 4), (16, 8)] {
        let parts = (dim / numbers).max(1);
        all.push((format!("PQ{parts}x{bits}"), product(parts, bits)));
    }
    for (name, codes) in all {
        let error = reconstruction_error(rows, dim, codes);
        println!("{{\"codes\":\"{name}\",\"n\":{},\"d\":{dim},\"mse\":{error:e}}}", data.base.len());
    }
    Ok(())
}

//! A graph as bytes, and back.

use std::sync::atomic::Ordering;

use super::graph::{Entry, Graph, MAX_LEVEL, TREE};
use super::starts::Starts;
use super::{LinkOptions, Links};
use crate::bits::RowSet;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::id::Row;
use crate::index::cow::{Epoch, NONE, Versions};
use crate::memory::Word;

/// Beside the mark whether there is a row to start from: rows have links by inner product.
const HAS_PRODUCTS: u8 = 2;

impl Graph {
    /// Writes all but which rows are held.
    pub(in crate::index) fn save(&self, options: &LinkOptions, out: &mut Encoder) {
        let products = if options.products > 0 { HAS_PRODUCTS } else { 0 };
        out.u8(u8::from(self.entry.is_some()) | products);
        let entry = self.entry.unwrap_or(Entry { row: 0, level: 0 });
        out.u32(entry.row);
        out.u8(entry.level as u8);
        self.starts.save(out);
        for row in self.held.iter() {
            out.words(words(self.base.block(row)));
        }
        for block in self.held.iter().filter_map(|row| self.products.get(row)) {
            out.words(words(block));
        }
        if !options.layered {
            return;
        }
        for row in self.held.iter() {
            let level = self.level(row);
            out.u8(level as u8);
            for block in (1..=level).filter_map(|layer| self.upper_block(layer, row)) {
                out.words(words(block));
            }
        }
    }
}

fn words(block: &[Word]) -> impl Iterator<Item = u32> + '_ {
    block.iter().map(|word| word.load(Ordering::Relaxed))
}

impl Links {
    /// Reads the graph that [`Graph::save`] wrote. Walks over what comes out
    /// meet held rows only; that it is the graph that was saved, the checksum
    /// of the file vouches for. One that was saved without links by inner product has none, unless it is empty.
    pub(in crate::index) fn load(
        mut options: LinkOptions,
        held: &RowSet,
        input: &mut Decoder<'_>,
        epoch: Epoch,
        versions: &Versions,
    ) -> Result<(Links, Graph), Malformed> {
        let marks = input.u8()?;
        let (has_entry, has_products) = (marks & 1 == 1, marks & HAS_PRODUCTS != 0);
        input.check(marks <= 1 | HAS_PRODUCTS, "a graph has unknown marks")?;
        let fits = !has_products || options.products > 0;
        input.check(fits, "links by inner product are not of this metric")?;
        if !has_products && held.len() > 0 {
            options.products = 0;
        }
        let mut links = Links::new(options);
        let entry = Entry { row: input.u32()?, level: usize::from(input.u8()?) };
        input.check(has_entry == (held.len() > 0), "there is no row to start from")?;
        input.check(!has_entry || held.contains(entry.row), "the first row is not held")?;
        let starts = Starts::load(held, input)?;
        let mut list = Vec::new();
        for row in held.iter() {
            load_list((options.degree, !TREE), held, input, &mut list)?;
            links.base.write(row, &list, epoch);
        }
        if has_products {
            for row in held.iter() {
                load_list((options.products, Row::MAX), held, input, &mut list)?;
                links.products.write(row, &list, epoch);
            }
        }
        if options.layered {
            links.load_towers(held, input, epoch)?;
        }
        let graph = Graph {
            base: links.base.publish(epoch, versions),
            products: links.products.publish(epoch, versions),
            upper: links.upper.publish(epoch, versions),
            towers: links.towers.publish(epoch, versions),
            held: held.clone(),
            entry: has_entry.then_some(entry),
            starts,
        };
        let fits = graph.entry.is_none_or(|entry| entry.level <= graph.level(entry.row));
        input.check(fits, "the first row has no such layer")?;
        Ok((links, graph))
    }

    /// Towers stand one after the other, wherever they stood before.
    fn load_towers(&mut self, held: &RowSet, input: &mut Decoder<'_>, epoch: Epoch) -> Result<(), Malformed> {
        let mut list = Vec::new();
        for row in held.iter() {
            let level = usize::from(input.u8()?);
            input.check(level <= MAX_LEVEL, "a row has too many layers")?;
            let Some(word) = self.places.allocate(level) else {
                input.check(level == 0, "there are too many layers")?;
                self.towers.write(row, &[NONE], epoch);
                continue;
            };
            self.places.insert(row, word);
            self.towers.write(row, &[word], epoch);
            for layer in 1..=level {
                load_list((self.options.upper, !TREE), held, input, &mut list)?;
                if let Some(block) = self.places.block(row, layer) {
                    self.upper.write(block, &list, epoch);
                }
            }
        }
        Ok(())
    }
}

/// Reads one list of links whose row is within `mask`; all rows in it must be held.
fn load_list(
    (degree, mask): (usize, u32),
    held: &RowSet,
    input: &mut Decoder<'_>,
    list: &mut Vec<Row>,
) -> Result<(), Malformed> {
    let fault = input.fault("a link leads to a row that is not held");
    list.clear();
    list.extend(input.words(degree)?.take_while(|link| *link != NONE));
    if list.iter().all(|link| held.contains(link & mask)) { Ok(()) } else { Err(fault) }
}

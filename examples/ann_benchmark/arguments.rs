//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use vecino::{IndexSpec, VectorStorage};

use super::Result;

pub(super) const HELP: &str = "\
Options of ann_benchmark:
  --data DIR           base.fvecs, query.fvecs, gt.ivecs and metric in one folder
  --base FILE          base vectors (.fvecs or .bvecs), instead of --data
  --query FILE         query vectors
  --gt FILE            exact answers (.ivecs); computed when left out
  --metric l2|cos|ip   instead of the file `metric`
  --queries N          queries used, from the start                  [1000]
  --k K                hits for each query                           [10]
  --index graph|hnsw|flat|ivf, or a name such as IVF1024,PQ98x4fsr   [graph]
  --m M                links of a row, for hnsw                      [16]
  --ef-construction N  breadth of the search while building          [hnsw: 200; graph: its own]
  --degree D           links of a row, for graph                     [64]
  --code-bits B        bits of a coordinate in the codes, for graph  [measured]
  --code-bytes B       bytes of a record's code, for graph           [measured]
  --vectors lossless|half|byte|full  how vectors are stored          [lossless]
  --lean               the preset for least memory, instead of --index and its options
  --oversample N       rows measured for each hit, for IVF with PQ   [10, more with many lists]
  --ef LIST            search breadths (nprobe of IVF), such as 16,64,256
  --shards S           shards, one worker each                       [1]
  --threads T          threads that build                            [2]
  --out FILE           append the JSON lines to this file as well
  --mixed              one reader beside one writer, instead of the sweep
  --filter             queries with filters that 50 to 0.1 % of the records pass
  --seconds S          longest run of the mixed load                 [8]
  --quick              small made-up data and short runs";

/// The structure that is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    Flat,
    Hnsw,
    Graph,
    /// Lists, or codes, by a name.
    Named(IndexSpec),
}

/// What the command line says.
pub(super) struct Arguments {
    pub(super) data: Option<PathBuf>,
    pub(super) base: Option<PathBuf>,
    pub(super) query: Option<PathBuf>,
    pub(super) truth: Option<PathBuf>,
    pub(super) metric: Option<String>,
    pub(super) queries: usize,
    pub(super) k: usize,
    pub(super) index: Index,
    pub(super) index_name: String,
    pub(super) oversample: Option<usize>,
    pub(super) m: usize,
    pub(super) ef_construction: Option<usize>,
    pub(super) degree: Option<usize>,
    pub(super) code_bits: Option<usize>,
    pub(super) code_bytes: Option<usize>,
    pub(super) vectors: Option<VectorStorage>,
    pub(super) lean: bool,
    pub(super) breadths: Vec<usize>,
    pub(super) shards: usize,
    pub(super) threads: usize,
    pub(super) out: Option<PathBuf>,
    pub(super) mixed: bool,
    pub(super) filter: bool,
    pub(super) seconds: f64,
    pub(super) quick: bool,
}

impl Arguments {
    fn new() -> Arguments {
        Arguments {
            data: None,
            base: None,
            query: None,
            truth: None,
            metric: None,
            queries: 1_000,
            k: 10,
            index: Index::Graph,
            index_name: String::new(),
            oversample: None,
            m: 16,
            ef_construction: None,
            degree: None,
            code_bits: None,
            code_bytes: None,
            vectors: None,
            lean: false,
            breadths: vec![4, 6, 8, 10, 12, 16, 20, 24, 40, 64, 100, 160, 256, 400, 640, 1_000, 1_600],
            shards: 1,
            threads: 2,
            out: None,
            mixed: false,
            filter: false,
            seconds: 8.0,
            quick: false,
        }
    }

    /// Reads the command line; `None` when help is wanted.
    pub(super) fn from_command_line() -> Result<Option<Arguments>> {
        let mut arguments = Arguments::new();
        let mut words = std::env::args().skip(1);
        while let Some(option) = words.next() {
            match option.as_str() {
                "--help" | "-h" => return Ok(None),
                "--mixed" => arguments.mixed = true,
                "--filter" => arguments.filter = true,
                "--lean" => arguments.lean = true,
                "--quick" => arguments.quick = true,
                _ => {
                    let value = words.next().ok_or_else(|| format!("{option} needs a value; see --help"))?;
                    arguments.set(&option, value)?;
                }
            }
        }
        if arguments.quick {
            arguments.seconds = arguments.seconds.min(1.0);
        }
        if arguments.k == 0 || arguments.queries == 0 || arguments.shards == 0 {
            return Err("--k, --queries and --shards must be at least 1".into());
        }
        Ok(Some(arguments))
    }

    fn set(&mut self, option: &str, value: String) -> Result<()> {
        match option {
            "--data" => self.data = Some(value.into()),
            "--base" => self.base = Some(value.into()),
            "--query" => self.query = Some(value.into()),
            "--gt" => self.truth = Some(value.into()),
            "--metric" => self.metric = Some(value),
            "--out" => self.out = Some(value.into()),
            "--queries" => self.queries = number(option, &value)?,
            "--k" => self.k = number(option, &value)?,
            "--m" => self.m = number(option, &value)?,
            "--ef-construction" => self.ef_construction = Some(number(option, &value)?),
            "--degree" => self.degree = Some(number(option, &value)?),
            "--code-bits" => self.code_bits = Some(number(option, &value)?),
            "--code-bytes" => self.code_bytes = Some(number(option, &value)?),
            "--oversample" => self.oversample = Some(number(option, &value)?),
            "--shards" => self.shards = number(option, &value)?,
            "--threads" => self.threads = number(option, &value)?,
            "--seconds" => self.seconds = number(option, &value)?,
            "--ef" => {
                self.breadths = value.split(',').map(|one| number(option, one)).collect::<Result<_>>()?;
            }
            "--vectors" => {
                self.vectors = Some(match value.as_str() {
                    "lossless" => VectorStorage::Lossless,
                    "half" => VectorStorage::Half,
                    "byte" => VectorStorage::Byte,
                    "full" => VectorStorage::Full,
                    _ => return Err(format!("--vectors is {value:?}: lossless, half, byte or full").into()),
                });
            }
            "--index" => {
                self.index = match value.as_str() {
                    "flat" => Index::Flat,
                    "hnsw" => Index::Hnsw,
                    "graph" => Index::Graph,
                    "ivf" => Index::Named(IndexSpec::ivf()),
                    name => Index::Named(name.parse()?),
                };
                self.index_name = value;
            }
            _ => return Err(format!("unknown option {option:?}\n{HELP}").into()),
        }
        Ok(())
    }

    /// The name under which the results stand beside those of other libraries.
    pub(super) fn name(&self) -> String {
        let index = match self.index {
            _ if self.lean => "lean".to_owned(),
            Index::Flat => "flat".to_owned(),
            Index::Hnsw => format!("hnsw-M{}", self.m),
            Index::Graph => "graph".to_owned(),
            Index::Named(_) => self.index_name.clone(),
        };
        let vectors = match self.vectors {
            Some(storage) => format!("-{storage:?}").to_lowercase(),
            None => String::new(),
        };
        let shards = if self.shards == 1 { String::new() } else { format!("-s{}", self.shards) };
        format!("vecino-{index}{vectors}{shards}")
    }
}

fn number<T: FromStr>(option: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| format!("{option} is {text:?}, but must be a number").into())
}

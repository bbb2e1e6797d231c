//! What the tests share: servers on temporary folders and free ports, clients on bare sockets,
//! child processes with a time cap.

pub mod child;
pub mod clickhouse;
pub mod disk;
pub mod fault_proxy;
pub mod h2;
pub mod http;
pub mod message;
pub mod process;
pub mod s3;
pub mod site;
pub mod sse;
pub mod ws;

pub use http::{Answer, Wire};
pub use process::Process;
pub use site::Site;

use server::config::Engine;
use std::fmt;
use std::time::{Duration, Instant};

/// One cell of the matrix that tests of the data path run in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub engine: Engine,
    pub shards: u32,
}

impl Cell {
    pub const URING_1: Self = Self { engine: Engine::Uring, shards: 1 };
    pub const URING_2: Self = Self { engine: Engine::Uring, shards: 2 };
    pub const EPOLL_1: Self = Self { engine: Engine::Epoll, shards: 1 };
    pub const EPOLL_2: Self = Self { engine: Engine::Epoll, shards: 2 };

    /// As `--engine` takes it.
    pub fn engine_name(self) -> &'static str {
        if self.engine == Engine::Uring { "uring" } else { "epoll" }
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} shards", self.engine_name(), self.shards)
    }
}

/// Makes tests of functions that take a [`Cell`]: one for each engine, with one and two shards.
macro_rules! cells {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            use crate::rig::Cell;

            #[test]
            fn uring_1() {
                super::$name(Cell::URING_1);
            }

            #[test]
            fn uring_2() {
                super::$name(Cell::URING_2);
            }

            #[test]
            fn epoll_1() {
                super::$name(Cell::EPOLL_1);
            }

            #[test]
            fn epoll_2() {
                super::$name(Cell::EPOLL_2);
            }
        })+
    };
}

/// Long enough for a loaded machine; only a failure waits it out.
pub const CAP: Duration = Duration::from_secs(60);

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < CAP, "gave up after {CAP:?} waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

//! Publisher formats beside plain JSON, by clients that others wrote: compressed bodies,
//! MessagePack, Protobuf, and streams that are answered while they run.

mod binary;
mod compressed;
mod streams;

//! The generated messages, clients and servers of `proto/`. Nothing else may be written here.

pub mod tidewatch {
    pub mod v1 {
        tonic::include_proto!("tidewatch.v1");
    }
}

pub mod prometheus {
    tonic::include_proto!("prometheus");
}

/// The descriptors of every file, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

//! The small documents: sentinel, metadata, tablespace spec, WAL metadata, any JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walport_engine::layout::gojson::{self, Value};
use walport_engine::layout::{Metadata, Sentinel, TablespaceSpec, WalMetadata};

fuzz_target!(|json: &[u8]| {
    if let Ok(sentinel) = Sentinel::parse(json)
        && let Ok(written) = sentinel.to_json()
    {
        assert_eq!(Sentinel::parse(&written).unwrap().to_json().unwrap(), written);
    }
    if let Ok(metadata) = Metadata::parse(json) {
        let written = metadata.to_json().unwrap();
        assert_eq!(Metadata::parse(&written).unwrap().to_json().unwrap(), written);
    }
    if let Ok(value) = Value::parse(json) {
        let written = gojson::to_vec_v1(&value).unwrap();
        assert_eq!(gojson::to_vec_v1(&Value::parse(&written).unwrap()).unwrap(), written);
    }
    let _ = (TablespaceSpec::parse(json), WalMetadata::parse(json));
});

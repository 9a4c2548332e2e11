//! The generated code in `src/generated` is committed, so that building needs no `protoc` and no build script; this
//! test holds it to the .proto files. After a change of those: `UPDATE_GENERATED=1 cargo test -p escrow-protocol`.

use std::fs;
use std::path::Path;

use prost::Message as _;

const FILES: [&str; 4] = [
    "escrow/v1/common.proto",
    "escrow/v1/producer.proto",
    "escrow/v1/consumer.proto",
    "escrow/v1/admin.proto",
];

#[test]
fn committed_code_matches_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(FILES, [root.join("proto")]).expect("the .proto files compile");
    let fresh = tempfile::tempdir().expect("temporary directory");

    let bytes = descriptors.encode_to_vec();
    tonic_prost_build::configure()
        .bytes(".")
        .out_dir(&fresh)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .expect("code is generated");

    let generated = fs::read_to_string(fresh.path().join("escrow.v1.rs")).expect("generated file");
    compare(&root.join("src/generated/escrow.v1.rs"), generated.as_bytes());
    compare(&root.join("src/generated/escrow.v1.descriptors"), &bytes);
}

fn compare(committed: &Path, fresh: &[u8]) {
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(committed, fresh).expect("written");
        return;
    }
    let found = fs::read(committed).unwrap_or_default();
    assert!(
        found == fresh,
        "{} is not what the .proto files say: run UPDATE_GENERATED=1 cargo test -p escrow-protocol",
        committed.display()
    );
}

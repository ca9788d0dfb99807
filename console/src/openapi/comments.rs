//! The comments of the `.proto` files.

use prost_reflect::{DescriptorPool, FileDescriptor};
use std::collections::HashMap;

/// By file and by the path within it, as `google.protobuf.SourceCodeInfo` has them.
pub(super) struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    pub(super) fn of(contracts: &DescriptorPool) -> Self {
        let mut comments = HashMap::new();
        for file in contracts.files() {
            let Some(source) = &file.file_descriptor_proto().source_code_info else { continue };
            for location in &source.location {
                let text = plain(location.leading_comments());
                if !text.is_empty() {
                    comments.insert((file.name().to_owned(), location.path.clone()), text);
                }
            }
        }
        Self(comments)
    }

    /// Empty where there is none.
    pub(super) fn at(&self, file: &FileDescriptor, path: &[i32]) -> String {
        self.0.get(&(file.name().to_owned(), path.to_vec())).cloned().unwrap_or_default()
    }
}

/// Without the space behind each `//`.
fn plain(comment: &str) -> String {
    let lines = comment.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

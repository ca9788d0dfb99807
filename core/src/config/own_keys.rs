//! The operator's own keys at the top of the file, which begin with `x-`, as in compose files. They are ignored, and hold values
//! with anchors (`&name`) for use elsewhere (`*name`, `<<: *name`).

use super::raw::Config;
use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, IgnoredAny, MapAccess, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};
use std::fmt;

/// Whether a key at the top of the file is the operator's own.
pub(super) fn is_own(key: &str) -> bool {
    key.starts_with("x-")
}

/// A file without its own keys.
#[derive(Default)]
pub(super) struct File(pub Config);

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FileVisitor;

        impl<'de> Visitor<'de> for FileVisitor {
            type Value = File;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("keys with their values, such as tenants: …")
            }

            // A file of comments alone.
            fn visit_unit<E>(self) -> Result<File, E> {
                Ok(File::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<File, A::Error> {
                Config::deserialize(MapAccessDeserializer::new(WithoutOwn(members))).map(File)
            }
        }

        deserializer.deserialize_map(FileVisitor)
    }
}

struct WithoutOwn<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutOwn<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        while let Some(key) = self.0.next_key_seed(Key(&mut seed))? {
            if key.is_some() {
                return Ok(key);
            }
            self.0.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// Deserializes a key with the seed while the parser still has the key's location; `None` for an own key.
struct Key<'a, K>(&'a mut Option<K>);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, K> {
    type Value = Option<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for Key<'_, K> {
    type Value = Option<K::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        match self.0.take_if(|_| !is_own(key)) {
            Some(seed) => seed.deserialize(StrDeserializer::new(key)).map(Some),
            None => Ok(None),
        }
    }
}

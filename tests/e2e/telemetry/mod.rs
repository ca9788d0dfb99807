//! What is counted and measured, and what docs, dashboard and alerts say of it.

mod catalogue;

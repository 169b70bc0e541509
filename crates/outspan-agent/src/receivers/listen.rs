//! Where to listen.

/// Holds an address to listen on, as `--listen` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// Whether the scheme is grpc:// or grpcs://; either kind of address takes both.
    pub(crate) is_grpc: bool,
    pub(crate) is_secure: bool,
    /// Host and port: `localhost:4317`.
    pub(crate) host: String,
    pub(crate) port: u16,
}

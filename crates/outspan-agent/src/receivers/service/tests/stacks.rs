//! Other people's stacks over real connections: tonic, hyper, and frames as Python's and Go's gRPC cut them.

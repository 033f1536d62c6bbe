//! Wire cases that every build of the server must pass.

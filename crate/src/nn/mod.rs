//! Blocks shared by the models: small structs over Burn tensors, one idea a file.

pub mod attention;
pub mod conv;
pub mod group_norm;
pub mod layers;
pub mod linear;
pub mod loader;
pub mod norm;
pub mod patch;
pub mod rope;
pub mod side_branch;
pub mod sincos;
pub mod timestep;
pub mod tokens;
pub mod white_box;
pub mod window;

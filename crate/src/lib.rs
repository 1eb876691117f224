//! Text-to-video generation with video diffusion transformers on Burn: the same code runs on the CPU, on any GPU
//! through wgpu, and in a browser tab through WebGPU.
//!
//! [`pipeline::Pipeline`] is the way in; see the README for the walk from prompt to pixels. Modules sit on floors
//! (`tests/tests/floors.rs` checks that imports only point down): border `web`, `cli` · order [`tasks`], [`pipeline`] · stages
//! [`tokenizer`], [`noise`], [`schedulers`], [`models`], [`pixels`] · blocks [`nn`] · [`kernels`] · bytes [`weights`] ·
//! ground [`config`], [`options`], [`host`], [`pace`], [`device`], [`memory`], [`error`].

#[cfg(not(target_arch = "wasm32"))]
pub mod cli;
pub mod condition;
pub mod config;
pub mod contract;
pub mod device;
pub mod error;
pub mod host;
pub mod kernels;
pub mod memory;
pub mod models;
pub mod nn;
pub mod noise;
pub mod options;
pub mod pace;
pub mod pipeline;
pub mod pixels;
pub mod sampling;
pub mod schedulers;
pub mod size;
pub mod tasks;
pub mod tokenizer;
#[cfg(target_arch = "wasm32")]
pub mod web;
pub mod weights;

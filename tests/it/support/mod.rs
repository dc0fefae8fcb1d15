pub mod postgres;
pub mod proxy;
pub mod redis;

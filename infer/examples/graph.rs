//! Runs an ONNX file once: `graph FILE WIDTH HEIGHT`, the input on standard input as little-endian float32,
//! `[3, height, width]`. Prints a line of JSON for each output. `tests/models` compares them with ONNX Runtime's.
#![allow(clippy::print_stdout, reason = "the answer of a program")]

use std::error::Error;
use std::io::Read as _;

fn main() -> Result<(), Box<dyn Error>> {
    let [_, file, width, height] = &std::env::args().collect::<Vec<_>>()[..] else {
        return Err("say FILE WIDTH HEIGHT".into());
    };
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    let (input, _) = bytes.as_chunks();
    let input: Vec<f32> = input.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let size = [width.parse()?, height.parse()?];
    for output in cloudpose_infer::models::onnx::run_once(&std::fs::read(file)?, size, &input)? {
        let (name, shape, values) = (output.name, output.shape, output.values);
        println!("{}", serde_json::json!({"name": name, "shape": shape, "values": values}));
    }
    Ok(())
}

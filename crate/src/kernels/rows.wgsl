// How a row is shared out among threads; included by the kernels that reduce over rows.
//@ gpu
const SPREAD: u32 = 64u; // threads per row, the whole workgroup
var<workgroup> parts: array<f32, 64>;
// The sum of `x` over the workgroup.
fn across(x: f32, t: u32) -> f32 {
  workgroupBarrier(); // the last sum has been read
  parts[t] = x;
  workgroupBarrier();
  for (var width: u32 = 32u; width > 0u; width = width / 2u) {
    if (t < width) { parts[t] = parts[t] + parts[t + width]; }
    workgroupBarrier();
  }
  return parts[0];
}

//@ software
const SPREAD: u32 = 1u; // threads per row
fn across(x: f32, t: u32) -> f32 { return x; }


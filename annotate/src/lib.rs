//! Overlay drawing on YUV planes and JPEG encoding.

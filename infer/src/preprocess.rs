//! Planes to model input: resized, padded, converted to RGB.
//!
//! Y, U and V are each resized to the model's size and only the result is converted to RGB: at
//! 1280×720 that touches a tenth of the pixels that converting first would.
//!
//! Resizing is bilinear interpolation between the two nearest samples with pixel centres at halves,
//! however much the picture shrinks: what MoveNet's authors feed it (`tf.image.resize_with_pad`, without
//! antialiasing) and what the golden tensors were made with. Averaging over the area of each model
//! pixel would look better and serve no better: over 176 windows cut from the golden frames, shrunk 2
//! to 20 times and judged by Thunder on a close-up of each person, MultiPose and Thunder found the
//! same persons and placed their joints not consistently nearer.
//!
//! The planes may be a reduction of the picture (see [`cloudpose_pixels::Scale`]). They are placed, and
//! points mapped back, by the size of the whole picture.

use cloudpose_pixels::{Component, PlanarImage, Plane, Scale, Subsampling, bt601};

/// How a picture is fitted into a model's input. What it does not cover is black, unless otherwise said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Into a square, centred: MoveNet SinglePose.
    Letterbox {
        /// Side of the square, in pixels.
        side: usize,
    },
    /// Into the smallest rectangle of multiples of 32, top left: MoveNet MultiPose.
    Aspect {
        /// The picture's longer side after resizing, in pixels; a multiple of 32.
        longer_side: usize,
    },
    /// The square in its middle over the whole input, the rest left out: classifiers.
    Middle {
        /// Side of the input, in pixels.
        side: usize,
        /// Of how many such pixels the picture's shorter side would be; at least `side`.
        shorter: usize,
    },
    /// Into a rectangle: foreign graphs. Of a square part of the picture the middle is shown, along the rectangle's shorter
    /// side, and fills it.
    Frame {
        /// In pixels.
        width: usize,
        /// In pixels.
        height: usize,
        /// Where in it the picture is.
        place: Place,
        /// The level of what it does not cover, in all colours.
        around: u8,
    },
}

/// Where in an input a picture is that does not fill it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the middle.
    Middle,
    /// Top left.
    Corner,
}

/// A square in pixels of the image, which may reach beyond it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Square {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width and height, more than 0.
    pub side: f32,
}

/// Where a picture lies in the model input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placement {
    /// Model input, in pixels.
    width: usize,
    height: usize,
    /// Resized picture within it: size and top left corner, in pixels.
    inner_width: usize,
    inner_height: usize,
    x0: usize,
    y0: usize,
}

impl Fit {
    /// Width and height of the largest input.
    pub fn shape(self) -> [usize; 2] {
        match self {
            Self::Letterbox { side } | Self::Aspect { longer_side: side } | Self::Middle { side, .. } => {
                [side; 2]
            }
            Self::Frame { width, height, .. } => [width, height],
        }
    }

    /// How many times wider and higher a square part of the picture is than what is shown of it.
    pub(crate) fn reach(self) -> [f32; 2] {
        let [width, height] = self.shape();
        [width, height].map(|side| width.max(height) as f32 / side as f32)
    }

    /// Returns the (width, height) that a picture of at least one pixel has in the model's input, or would have if
    /// all of it were in there.
    pub fn resized(self, width: usize, height: usize) -> (usize, usize) {
        match self {
            Self::Middle { shorter, .. } => {
                let scale = shorter as f64 / width.min(height) as f64;
                let resized = |side: usize| (side as f64 * scale).round() as usize;
                (resized(width), resized(height))
            }
            Self::Letterbox { .. } | Self::Aspect { .. } | Self::Frame { .. } => {
                let placement = self.place(width, height);
                (placement.inner_width, placement.inner_height)
            }
        }
    }

    /// The level of what a picture does not cover.
    fn around(self) -> u8 {
        match self {
            Self::Frame { around, .. } => around,
            Self::Letterbox { .. } | Self::Aspect { .. } | Self::Middle { .. } => 0,
        }
    }

    /// The part of a picture that is shown where nobody asks for another; all of it if none.
    fn part(self, width: usize, height: usize) -> Option<Square> {
        let Self::Middle { side, shorter } = self else { return None };
        let (width, height) = (width as f32, height as f32);
        let side = width.min(height) * side as f32 / shorter as f32;
        Some(Square { x: (width - side) / 2.0, y: (height - side) / 2.0, side })
    }

    /// Places a picture of at least one pixel, as a whole.
    fn place(self, width: usize, height: usize) -> Placement {
        let [across, down] = self.shape();
        let scale = (across as f64 / width as f64).min(down as f64 / height as f64);
        let resized = |side: usize, most: usize| ((side as f64 * scale).round() as usize).clamp(1, most);
        let (inner_width, inner_height) = (resized(width, across), resized(height, down));
        let (input_width, input_height, is_in_middle) = match self {
            Self::Letterbox { .. } | Self::Middle { .. } => (across, down, true),
            Self::Frame { place, .. } => (across, down, place == Place::Middle),
            Self::Aspect { .. } => {
                (inner_width.next_multiple_of(32), inner_height.next_multiple_of(32), false)
            }
        };
        let before = |side: usize, inner: usize| if is_in_middle { (side - inner) / 2 } else { 0 };
        Placement {
            width: input_width,
            height: input_height,
            inner_width,
            inner_height,
            x0: before(input_width, inner_width),
            y0: before(input_height, inner_height),
        }
    }

    /// Image pixels per model pixel of a crop, and the crop's corner or that of the part of it that is shown.
    fn shown(self, crop: Square) -> (f32, [f32; 2]) {
        let shape = self.shape();
        let scale = crop.side / shape[0].max(shape[1]) as f32;
        let [across, down] = shape.map(|side| (crop.side - side as f32 * scale) / 2.0);
        (scale, [crop.x + across, crop.y + down])
    }

    /// Places the part of a picture that a crop shows, which fills the whole input: rows and columns
    /// beyond the picture's edge are left out.
    fn place_crop(self, crop: Square, width: usize, height: usize) -> Placement {
        let [input_width, input_height] = self.shape();
        let (_, [left, top]) = self.shown(crop);
        let scale = f64::from(crop.side) / input_width.max(input_height) as f64;
        // Those whose centre lies in the picture.
        let visible = |start: f32, len: usize, side: usize| {
            let first = (-f64::from(start) / scale - 0.5).ceil().max(0.0) as usize;
            let end = ((len as f64 - f64::from(start)) / scale - 0.5).ceil().max(0.0) as usize;
            first.min(side)..end.min(side)
        };
        let (across, down) = (visible(left, width, input_width), visible(top, height, input_height));
        Placement {
            width: input_width,
            height: input_height,
            inner_width: across.len(),
            inner_height: down.len(),
            x0: across.start,
            y0: down.start,
        }
    }
}

/// Maps model input pixels to image pixels. Both have their origin top left and the first pixel's
/// centre at (0.5, 0.5).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transform {
    /// Image pixels per model pixel, across and down. They differ a little, because the resized
    /// picture is a whole number of pixels.
    pub scale: [f32; 2],
    /// Left and top edge of the picture in the model input, in model pixels; outside of it if the input
    /// shows a part of the picture.
    pub origin: [f32; 2],
}

impl Transform {
    /// Maps a point from model input pixels to image pixels.
    pub fn apply(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        [(x - self.origin[0]) * self.scale[0], (y - self.origin[1]) * self.scale[1]]
    }
}

/// A picture as a model takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInput {
    /// `[height, width, 3]` u8, RGB, 0..=255.
    pub pixels: Vec<u8>,
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// From model input pixels to pixels of the picture.
    pub image_from_model: Transform,
}

impl ModelInput {
    /// A black square, `side` pixels wide.
    pub(crate) fn black(side: usize) -> Self {
        Self { pixels: vec![0; 3 * side * side], width: side, height: side, ..Self::default() }
    }

    /// Width and height, in pixels.
    pub(crate) fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }
}

impl Default for ModelInput {
    /// An input of no pixels, to be filled.
    fn default() -> Self {
        let image_from_model = Transform { scale: [1.0; 2], origin: [0.0; 2] };
        Self { pixels: Vec::new(), width: 0, height: 0, image_from_model }
    }
}

/// Makes model inputs, keeping buffers, and tables while the pictures have one size and crop.
#[derive(Debug)]
pub struct Preprocessor {
    fit: Fit,
    plan: Option<Plan>,
    /// One output row of Y, U and V.
    rows: [Vec<u8>; 3],
}

/// What the planes are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Width of the whole picture, in pixels.
    pub width: usize,
    /// Height of the whole picture, in pixels.
    pub height: usize,
    /// How much of it the planes are.
    pub scale: Scale,
}

/// What depends on the picture's shape and the crop alone.
#[derive(Debug)]
struct Plan {
    source: Source,
    subsampling: Subsampling,
    crop: Option<Square>,
    placement: Placement,
    image_from_model: Transform,
    luma: Axes,
    chroma: Axes,
}

/// A tap for each column and row of the resized picture.
#[derive(Debug)]
struct Axes {
    across: Vec<Tap>,
    down: Vec<Tap>,
}

/// The two source samples that an output sample lies between, along one axis.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tap {
    first: usize,
    /// The next one, or the same at the edge.
    second: usize,
    /// The second one's share, in 1/256.
    share: u32,
}

/// Plans the resizing of one axis of a plane, `len` samples long: `out_len` output samples, `scale` pixels
/// apart, from pixel `start` on, out of samples that stand for `step` pixels each, sited in their middle.
/// The outermost samples continue beyond the edges.
fn taps(len: usize, step: f64, (start, scale): (f64, f64), out_len: usize) -> Vec<Tap> {
    let last = len - 1;
    (0..out_len)
        .map(|out| {
            let pixel = start + (out as f64 + 0.5) * scale;
            let centre = (pixel / step - 0.5).clamp(0.0, last as f64);
            let first = centre as usize;
            let share = ((centre - first as f64) * 256.0).round() as u32;
            Tap { first, second: (first + 1).min(last), share }
        })
        .collect()
}

impl Plan {
    fn new(fit: Fit, source: Source, image: &PlanarImage, crop: Option<Square>) -> Self {
        let Source { width, height, scale: reduced } = source;
        let shown = crop.or_else(|| fit.part(width, height));
        let placement = match shown {
            Some(crop) => fit.place_crop(crop, width, height),
            None => fit.place(width, height),
        };
        let (inner_width, inner_height) = (placement.inner_width, placement.inner_height);
        let (scale, origin) = match shown {
            Some(crop) => {
                let (scale, [x, y]) = fit.shown(crop);
                ([scale; 2], [-x / scale, -y / scale])
            }
            None => (
                [width as f32 / inner_width as f32, height as f32 / inner_height as f32],
                [placement.x0 as f32, placement.y0 as f32],
            ),
        };
        let image_from_model = Transform { scale, origin };
        // Where along each axis the first output sample begins, and how far apart they are, in pixels.
        let [across, down] = [(0, placement.x0), (1, placement.y0)].map(|(axis, first)| {
            let scale = f64::from(scale[axis]);
            ((first as f64 - f64::from(origin[axis])) * scale, scale)
        });
        let pixels = |step: usize| step as f64 / reduced.factor();
        let axes = |step: (usize, usize)| Axes {
            across: taps(image.width().div_ceil(step.0), pixels(step.0), across, inner_width),
            down: taps(image.height().div_ceil(step.1), pixels(step.1), down, inner_height),
        };
        let subsampling = image.subsampling();
        let (luma, chroma) = (axes((1, 1)), axes(subsampling.step()));
        Self { source, subsampling, crop, placement, image_from_model, luma, chroma }
    }
}

impl Preprocessor {
    /// Prepares for inputs of one kind of model.
    pub fn new(fit: Fit) -> Self {
        Self { fit, plan: None, rows: Default::default() }
    }

    /// Makes the model input of a picture, or of the part of it that `crop` shows; a crop must meet the
    /// picture. A picture of no pixels becomes an empty input.
    pub fn run(&mut self, image: &PlanarImage, crop: Option<Square>, into: &mut ModelInput) {
        let source = Source { width: image.width(), height: image.height(), scale: Scale::FULL };
        self.run_reduced(image, source, crop, into);
    }

    /// How the model input is made of a picture, of at least one pixel, of which `image` is the reduction that
    /// `source` says.
    fn plan(&mut self, image: &PlanarImage, source: Source, crop: Option<Square>) -> &Plan {
        let key = (source, image.subsampling(), crop);
        if self.plan.as_ref().is_none_or(|plan| (plan.source, plan.subsampling, plan.crop) != key) {
            self.plan = Some(Plan::new(self.fit, source, image, crop));
        }
        self.plan.as_ref().expect("made above")
    }

    /// Makes the model input as [`run`](Self::run) does, of a picture of which `image` is the reduction that
    /// `source` says. `crop` is in pixels of the whole picture.
    pub fn run_reduced(
        &mut self,
        image: &PlanarImage,
        source: Source,
        crop: Option<Square>,
        into: &mut ModelInput,
    ) {
        let Source { width, height, .. } = source;
        let subsampling = image.subsampling();
        if width == 0 || height == 0 {
            *into = ModelInput::default();
            return;
        }
        self.plan(image, source, crop);
        let plan = self.plan.as_ref().expect("made above");
        let placement = plan.placement;

        (into.width, into.height) = (placement.width, placement.height);
        into.image_from_model = plan.image_from_model;
        into.pixels.clear();
        into.pixels.resize(placement.width * placement.height * 3, self.fit.around());

        let [y_row, u_row, v_row] = &mut self.rows;
        for row in [&mut *y_row, u_row, v_row] {
            row.resize(placement.inner_width, 0);
            // What grey pictures keep.
            row.fill(128);
        }
        let first = (placement.y0 * placement.width + placement.x0) * 3;
        let rows = into.pixels[first..].chunks_mut(placement.width * 3).take(placement.inner_height);
        for (y, pixels) in rows.enumerate() {
            resize_row(image.luma(), &plan.luma, y, y_row);
            if subsampling != Subsampling::Grey {
                for (component, row) in [(Component::U, &mut *u_row), (Component::V, v_row)] {
                    let plane = image.plane(component).expect("not grey");
                    resize_row(plane, &plan.chroma, y, row);
                }
            }
            let (pixels, _) = pixels[..placement.inner_width * 3].as_chunks_mut::<3>();
            for (((pixel, &y), &u), &v) in pixels.iter_mut().zip(&*y_row).zip(&*u_row).zip(&*v_row) {
                *pixel = bt601::rgb_from_ycc([y, u, v]);
            }
        }
    }
}

/// Computes row `y` of the resized plane.
fn resize_row(plane: Plane<'_>, axes: &Axes, y: usize, into: &mut [u8]) {
    let down = axes.down[y];
    let (upper, lower) = (plane.row(down.first), plane.row(down.second));
    for (sample, across) in into.iter_mut().zip(&axes.across) {
        let between = |row: &[u8]| {
            let (first, second) = (u32::from(row[across.first]), u32::from(row[across.second]));
            first * (256 - across.share) + second * across.share
        };
        let sum = between(upper) * (256 - down.share) + between(lower) * down.share;
        *sample = ((sum + (1 << 15)) >> 16) as u8;
    }
}

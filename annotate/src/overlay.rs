//! Skeletons drawn on the planes of a frame, in place.
//!
//! Everything is made of capsules (thick lines with round ends), antialiased by their distance from
//! the pixel's centre: limbs, joints, box corners, digits. A dark halo under each keeps it visible on
//! any background. Widths follow the size of the image and, less than in proportion, of the person,
//! so that someone far away is not buried under lines.
//!
//! Pure: no clock, no state; the same persons on the same picture give the same pixels.

use cloudpose_pixels::PlanarImage;
use cloudpose_wire::{
    Person, Skeleton,
    event::{BoundingBox, parse_score},
    skeleton::Part,
};

mod canvas;
mod label;
mod palette;

use canvas::{Canvas, Point};
use palette::{HALO, RIM};

/// What to draw.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args)]
#[group(id = "style")]
#[command(next_help_heading = "Overlay")]
pub struct Style {
    /// Leave out joints with a lower score, 0 to 1, and limbs that end in them
    #[arg(long, env = "CLOUDPOSE_KEYPOINT_MIN_SCORE", default_value_t = 0.3, value_parser = parse_score,
        value_name = "SCORE")]
    pub keypoint_min_score: f32,
    /// Mark the corners of each person's box
    #[arg(long = "draw-boxes", env = "CLOUDPOSE_DRAW_BOXES")]
    pub boxes: bool,
    /// Leave out the ids of tracked persons
    #[arg(long, env = "CLOUDPOSE_HIDE_IDS")]
    pub hide_ids: bool,
}

impl Default for Style {
    /// Joints from 0.3, ids, no boxes.
    fn default() -> Self {
        Self { keypoint_min_score: 0.3, boxes: false, hide_ids: false }
    }
}

/// Draws persons of a skeleton, those with the highest score (the first) on top. Their colour follows the
/// track, or their position in the list where there is none.
///
/// Whatever lies outside the image is clipped; coordinates that are no numbers, or absurdly far
/// away, count as not seen. A grey image becomes 4:2:0 when there is someone to draw.
pub fn draw(image: &mut PlanarImage, skeleton: &Skeleton, persons: &[Person], style: &Style) {
    if persons.is_empty() {
        return;
    }
    image.add_chroma();
    let image_size = [image.width() as f32, image.height() as f32];
    let mut canvas = Canvas::new(image);
    for (index, person) in persons.iter().enumerate().rev() {
        let figure = Figure::new(skeleton, person, image_size, style.keypoint_min_score);
        let color = palette::of(person.track_id.map_or(index, |id| id as usize));
        let pen = Pen::new(image_size, figure.height());
        if style.boxes {
            draw_box(&mut canvas, person.bounding_box, pen, color);
        }
        figure.draw(&mut canvas, pen, color);
        if let (true, Some(id), Some(top)) = (!style.hide_ids, person.track_id, figure.top()) {
            label::draw(&mut canvas, id, top, pen, color);
        }
    }
}

/// Widths for one person, in pixels.
#[derive(Debug, Clone, Copy)]
struct Pen {
    /// Half the width of a limb.
    limb: f32,
    /// How far the halo reaches beyond what it surrounds.
    halo: f32,
    /// Half the width of box corners and the unit of the label: never larger than the image asks for.
    frame: f32,
}

impl Pen {
    fn new(image_size: [f32; 2], person_height: f32) -> Self {
        // The side of a square of the image's area: 960 at 1280×720.
        let side = (image_size[0] * image_size[1]).sqrt();
        let full = side / 480.0;
        // 1 for a person of half that height, a half for one of an eighth.
        let closeness = (person_height / (0.5 * side)).sqrt().clamp(0.4, 1.5);
        let limb = (full * closeness).max(0.8);
        let frame = (full * closeness.clamp(0.6, 1.0)).max(0.8);
        Self { limb, halo: (0.45 * limb).clamp(0.6, 2.5), frame }
    }
}

/// The joints of a person that can be drawn.
struct Figure<'a> {
    skeleton: &'a Skeleton,
    /// One for each keypoint of the skeleton.
    joints: Vec<Option<Point>>,
}

impl<'a> Figure<'a> {
    fn new(skeleton: &'a Skeleton, person: &Person, image_size: [f32; 2], min_score: f32) -> Self {
        let mut joints = vec![None; skeleton.keypoints().len()];
        for (joint, keypoint) in joints.iter_mut().zip(&person.keypoints) {
            let point = [keypoint.x, keypoint.y];
            // Not a number fails every comparison.
            if keypoint.score >= min_score && is_near(point, image_size) {
                *joint = Some(point);
            }
        }
        Self { skeleton, joints }
    }

    /// Thinner and smaller than the rest: the face is small and full of joints.
    fn is_face(&self, index: usize) -> bool {
        self.skeleton.keypoints()[index].part == Part::Head
    }

    fn limbs(&self) -> impl Iterator<Item = (Point, Point, bool)> {
        self.skeleton.limbs().iter().filter_map(|&[from, to]| {
            Some((self.joints[from]?, self.joints[to]?, self.is_face(from) || self.is_face(to)))
        })
    }

    /// From the topmost to the lowest joint, or from the leftmost to the rightmost if that is more.
    fn height(&self) -> f32 {
        let extent = |axis: usize| {
            let along = self.joints.iter().flatten().map(|p| p[axis]);
            let (low, high) = along.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
            (high - low).max(0.0)
        };
        extent(0).max(extent(1))
    }

    /// The topmost joint.
    fn top(&self) -> Option<Point> {
        self.joints.iter().flatten().copied().min_by(|a, b| a[1].total_cmp(&b[1]))
    }

    fn draw(&self, canvas: &mut Canvas<'_>, pen: Pen, color: [u8; 3]) {
        let width = |thin: bool| if thin { 0.6 * pen.limb } else { pen.limb };
        for (from, to, thin) in self.limbs() {
            canvas.capsule(from, to, width(thin) + pen.halo, HALO);
        }
        for (from, to, thin) in self.limbs() {
            canvas.capsule(from, to, width(thin), color.into());
        }
        for (index, joint) in self.joints.iter().enumerate() {
            let &Some(at) = joint else { continue };
            let radius = if self.is_face(index) { 1.1 * pen.limb } else { 1.75 * pen.limb };
            canvas.capsule(at, at, radius + pen.halo, HALO);
            canvas.capsule(at, at, radius, RIM);
            canvas.capsule(at, at, 0.62 * radius, color.into());
        }
    }
}

/// Marks the four corners of a box.
fn draw_box(canvas: &mut Canvas<'_>, bounds: BoundingBox, pen: Pen, color: [u8; 3]) {
    let BoundingBox { x, y, width, height } = bounds;
    let image_size = canvas.size();
    if !(is_near([x, y], image_size) && is_near([x + width, y + height], image_size)) {
        return;
    }
    let arm = (0.2 * width.min(height)).clamp(0.0, 30.0 * pen.frame);
    let radius = 0.7 * pen.frame;
    for (radius, paint) in [(radius + pen.halo, HALO), (radius, color.into())] {
        for (corner_x, toward_x) in [(x, arm), (x + width, -arm)] {
            for (corner_y, toward_y) in [(y, arm), (y + height, -arm)] {
                let corner = [corner_x, corner_y];
                canvas.capsule(corner, [corner_x + toward_x, corner_y], radius, paint);
                canvas.capsule(corner, [corner_x, corner_y + toward_y], radius, paint);
            }
        }
    }
}

/// Whether a point lies within four image sizes of the image. False for what is no number.
fn is_near(point: Point, image_size: [f32; 2]) -> bool {
    point.iter().zip(image_size).all(|(&v, size)| v >= -4.0 * size && v <= 5.0 * size)
}

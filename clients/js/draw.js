// Skeletons on a canvas, from poses alone, as the server draws them.

/** COCO's: what events speak of that name no skeleton. As `/v1/models` tells skeletons. */
export const COCO = {
  name: "coco-17",
  keypoints: [
    { name: "nose", part: "head" },
    { name: "left_eye", part: "head" },
    { name: "right_eye", part: "head" },
    { name: "left_ear", part: "head" },
    { name: "right_ear", part: "head" },
    { name: "left_shoulder", part: "shoulder" },
    { name: "right_shoulder", part: "shoulder" },
    { name: "left_elbow" },
    { name: "right_elbow" },
    { name: "left_wrist" },
    { name: "right_wrist" },
    { name: "left_hip", part: "hip" },
    { name: "right_hip", part: "hip" },
    { name: "left_knee" },
    { name: "right_knee" },
    { name: "left_ankle" },
    { name: "right_ankle" },
  ],
  limbs: [
    ["nose", "left_eye"],
    ["nose", "right_eye"],
    ["left_eye", "left_ear"],
    ["right_eye", "right_ear"],
    ["nose", "left_shoulder"],
    ["nose", "right_shoulder"],
    ["left_shoulder", "left_elbow"],
    ["left_elbow", "left_wrist"],
    ["right_shoulder", "right_elbow"],
    ["right_elbow", "right_wrist"],
    ["left_shoulder", "right_shoulder"],
    ["left_shoulder", "left_hip"],
    ["right_shoulder", "right_hip"],
    ["left_hip", "right_hip"],
    ["left_hip", "left_knee"],
    ["left_knee", "left_ankle"],
    ["right_hip", "right_knee"],
    ["right_knee", "right_ankle"],
  ],
};

/** Of persons, by their tracks: the server's. */
const COLOURS = ["#00d4ff", "#ff8a00", "#7cff3d", "#ff3d9a", "#ffe100", "#4c7dff", "#ff4d42", "#00f0a8", "#b46bff", "#ffb3a0"];
/** Under everything: lets bright lines stand out from bright backgrounds. */
const HALO = "rgb(10 12 20 / 60%)";

/**
 * Draws the persons of a pose event onto all of a canvas: what is on it stays below them. Joints whose score is less than
 * `minScore` are left out. Events of a model of your own need its `skeleton`.
 */
export function drawPoses(context, event, { skeleton = COCO, minScore = 0.3 } = {}) {
  const { width, height } = context.canvas;
  const scale = { x: width / event.width, y: height / event.height };
  const heads = new Set(skeleton.keypoints.filter(({ part }) => part === "head").map(({ name }) => name));
  context.save();
  context.lineCap = "round";
  // The one with the highest score, the first, is on top.
  for (const [index, person] of [...event.persons.entries()].reverse()) {
    const joints = new Map();
    for (const { name, x, y, score } of person.keypoints) {
      if (score >= minScore) joints.set(name, { x: x * scale.x, y: y * scale.y });
    }
    const limbs = skeleton.limbs.filter(([from, to]) => joints.has(from) && joints.has(to));
    const lines = limbs.map(([from, to]) => [joints.get(from), joints.get(to), heads.has(from) || heads.has(to)]);
    const circles = [...joints].map(([name, at]) => [at, heads.has(name)]);
    const colour = COLOURS[(person.track_id ?? index) % COLOURS.length];
    drawPerson(context, lines, circles, colour, widths(width, height, [...joints.values()]));
    if (person.track_id !== null && joints.size > 0) drawId(context, person.track_id, [...joints.values()], colour);
  }
  context.restore();
}

/** Half the width of a limb, and how far the halo reaches beyond it: thinner for persons who are far away. */
function widths(width, height, joints) {
  const side = Math.sqrt(width * height);
  const extent = (values) => (values.length === 0 ? 0 : Math.max(...values) - Math.min(...values));
  const size = Math.max(extent(joints.map(({ x }) => x)), extent(joints.map(({ y }) => y)));
  const closeness = Math.min(1.5, Math.max(0.4, Math.sqrt(size / (0.5 * side))));
  const limb = Math.max(0.8, (side / 480) * closeness);
  return { limb, halo: Math.min(2.5, Math.max(0.6, 0.45 * limb)) };
}

function drawPerson(context, lines, circles, colour, { limb, halo }) {
  const stroke = (style, more) => {
    context.strokeStyle = style;
    for (const [from, to, isThin] of lines) {
      context.lineWidth = 2 * ((isThin ? 0.6 : 1) * limb + more);
      context.beginPath();
      context.moveTo(from.x, from.y);
      context.lineTo(to.x, to.y);
      context.stroke();
    }
  };
  const dot = ({ x, y }, radius, style) => {
    context.fillStyle = style;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  };
  stroke(HALO, halo);
  stroke(colour, 0);
  for (const [at, isSmall] of circles) {
    const radius = (isSmall ? 1.1 : 1.75) * limb;
    dot(at, radius + halo, HALO);
    dot(at, radius, "#fff");
    dot(at, 0.62 * radius, colour);
  }
}

/** The id of the track, above the topmost joint. */
function drawId(context, id, joints, colour) {
  const size = Math.max(10, Math.sqrt(context.canvas.width * context.canvas.height) / 40);
  const top = joints.reduce((top, joint) => (joint.y < top.y ? joint : top));
  const y = Math.max(size, top.y - size);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.lineJoin = "round";
  context.lineWidth = size / 5;
  context.strokeStyle = HALO;
  context.strokeText(String(id), top.x, y);
  context.fillStyle = colour;
  context.fillText(String(id), top.x, y);
}

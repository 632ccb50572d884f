// Looks at pixels. These functions run inside the page: each stands alone.

/**
 * How much the picture shown differs from its source: `{width, height, changed, spread}`. `changed` is the
 * share of pixels in which some channel differs by more than 60 of 255, which JPEG does not do by itself;
 * `spread` is the standard deviation of the picture's green channel. `source` is the address of an image,
 * or null for the (mirrored) webcam.
 */
export async function compareWithSource(source) {
  const picture = document.getElementById("picture");
  const { width, height } = picture;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (source === null) {
    context.setTransform(-1, 0, 0, 1, width, 0);
    context.drawImage(document.getElementById("source"), 0, 0, width, height);
  } else {
    const image = await createImageBitmap(await (await fetch(source)).blob());
    context.drawImage(image, 0, 0, width, height);
  }
  const before = context.getImageData(0, 0, width, height).data;
  const after = picture.getContext("2d").getImageData(0, 0, width, height).data;
  let changed = 0;
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < after.length; i += 4) {
    if ([0, 1, 2].some((channel) => Math.abs(after[i + channel] - before[i + channel]) > 60)) changed += 1;
    sum += after[i + 1];
    squares += after[i + 1] ** 2;
  }
  const pixels = width * height;
  const mean = sum / pixels;
  return { width, height, changed: changed / pixels, spread: Math.sqrt(squares / pixels - mean ** 2) };
}

/**
 * At each of `points`, `[x, y]` in pixels of the picture shown, the largest difference of a channel from
 * the image at address `source`.
 */
export async function differencesAt({ source, points }) {
  const picture = document.getElementById("picture");
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  context.drawImage(await createImageBitmap(await (await fetch(source)).blob()), 0, 0);
  return points.map(([x, y]) => {
    const before = context.getImageData(x, y, 1, 1).data;
    const after = picture.getContext("2d").getImageData(x, y, 1, 1).data;
    return Math.max(...[0, 1, 2].map((channel) => Math.abs(after[channel] - before[channel])));
  });
}

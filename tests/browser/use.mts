// Checked against the client's types, not run: what somebody writes in TypeScript.

import { type PoseEvent, Film, Live, Session, canFilm, drawPoses } from "../../clients/js/cloudpose.js";

const video = document.createElement("video");
const canvas = document.createElement("canvas");
const context = canvas.getContext("2d");

const live = new Live(video, { server: "https://pose.example.com", key: "cpk_…", want: "both", keepFrames: true }, {
  result({ pose, image, frame, roundTripMs }) {
    if (context && pose) drawPoses(context, pose, { minScore: 0.4 });
    frame?.close();
    const [first] = pose?.persons ?? [];
    console.log(image?.size, roundTripMs?.toFixed(), first?.keypoints[0].name, live.codec satisfies "h264" | "jpeg");
  },
  drops: (counts) => console.log(counts.superseded),
  unauthorized: async (shown) => shown === null,
});
live.configure({ model: "accurate" });

const codec = (await canFilm()) ? "h264" : null;
const film = new Film();
const session = new Session({ codec }, { connected: () => film.restart(), keyframe: () => film.restart() });
const encoded = await film.encode(canvas);
if (encoded !== null && session.ready) session.send(encoded);

export const heights = ({ persons = [] }: PoseEvent): number[] => persons.map(({ box }) => box.height);

// @ts-expect-error There is no such way to draw.
live.configure({ draw: "sketch" });

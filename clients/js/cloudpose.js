// CloudPose in browsers: frames go out, poses come back. One module, of files that each do one thing.

export { COCO, drawPoses } from "./draw.js";
export { Film, canFilm } from "./film.js";
export { authorization, protocols } from "./key.js";
export { Live, fit } from "./live.js";
export { Session, backoff, streamUrl } from "./session.js";

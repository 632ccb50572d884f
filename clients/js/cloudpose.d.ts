/** Where a server is and who one is. */
export interface Connection {
  /** The server's address; the page's own if absent. */
  server?: string | URL;
  /** The API key, or what gives it whenever a connection is made. */
  key?: string | null | (() => string | null);
}

/** How frames are worked on. Those that a server does not know it refuses. */
export interface Wishes {
  /** What comes back: poses, the picture with skeletons drawn on it, or both. */
  want?: "pose" | "overlay" | "both";
  /** How the picture is drawn. */
  draw?: "overlay" | "skeleton" | "redacted" | "frame";
  /** One of the models that `/v1/models` lists. Null: the server's. */
  model?: string | null;
  /** Of JPEGs, 1 to 100: those that come back, and those that a `Live` sends. */
  quality?: number;
  /** Whether joints are smoothed over time. */
  smooth?: boolean;
}

export interface SessionSettings extends Connection, Wishes {
  /** The stream's name, by which others watch it; the server makes one up if absent. */
  stream?: string;
  /** The newest frame wins, or none is dropped. */
  mode?: "live" | "complete";
  /** A frame of a live session that is older is dropped. Milliseconds. */
  max_age_ms?: number;
  /** How frames are sent: as video, or as images. Asked for; images are sent where the server takes no video. */
  codec?: "h264" | null;
}

export interface Keypoint {
  name: string;
  /** Pixels of the frame that was sent, from its left. */
  x: number;
  /** Pixels of the frame that was sent, from its top. */
  y: number;
  /** 0 to 1. */
  score: number;
}

export interface Person {
  /** Stays with a person; null for one who has just come. */
  track_id: number | null;
  score: number;
  box: { x: number; y: number; width: number; height: number };
  keypoints: Keypoint[];
  /** Not looked at closely. */
  coarse?: boolean;
}

/** What was found in a frame. */
export interface PoseEvent {
  stream: string;
  seq: number;
  /** Milliseconds since 1970. */
  captured_at: number;
  width: number;
  height: number;
  model: string;
  device: string;
  /** Absent: COCO's. */
  skeleton?: string;
  /** Of a model that finds persons. */
  persons?: Person[];
  /** Of a model that tells classes. */
  classes?: { label: string; score: number }[];
  timings_ms: Record<string, number | null>;
}

export interface Result {
  /** Null with `want: "overlay"`. */
  pose: PoseEvent | null;
  /** From the frame's arrival at the server to its result. */
  latencyMs: number;
  /** From sending the frame to its result; null if it was sent on another connection. */
  roundTripMs: number | null;
  /** The picture with skeletons drawn on it, a JPEG. */
  image: Blob | null;
  /** The frame, if it was kept. It is yours: close it. */
  frame: ImageBitmap | null;
}

export interface ServerError {
  /** As in the description of the WebSocket: `bad_query`, `idle_timeout`, … */
  code: string;
  message: string;
}

export interface Limits {
  max_image_bytes: number;
  max_image_pixels: number;
  /** Frames that are worked on at once. */
  window: number;
  max_age_ms: number;
}

/** What the server says of how much to send. */
export interface Hint {
  /** So many frames a second would all be worked on. */
  fps: number;
  /** Bits a second that are enough for them; of video only. */
  bitrate?: number;
  /** The quota that is the reason, if one is. */
  quota?: string;
}

/** What a session tells. None has to be there. */
export interface SessionHandlers {
  /** An attempt to connect has begun. */
  connecting?(): void;
  /** The server has said hello. */
  connected?(limits: Limits): void;
  result?(result: Result): void;
  /** Frames that were dropped so far, by reason, over all connections. */
  drops?(counts: Record<string, number>): void;
  /** The connection is lost. The next attempt is at `retryAt`, in the time of `performance.now()`. */
  lost?(retryAt: number, error: ServerError | null): void;
  /** An error that does not end the session. */
  note?(error: ServerError): void;
  /** An error that ends it for good. */
  failed?(error: ServerError): void;
  /** The server wants a key, or another one than `shown`. Whether to try again, once `key` gives another. */
  unauthorized?(shown: string | null): boolean | Promise<boolean>;
  /** The session sends more slowly by itself. */
  hint?(hint: Hint): void;
  /** The server needs a frame of video that builds on no other. */
  keyframe?(): void;
}

/** A session of `/v1/stream`, which comes back by itself when the connection is lost. Connects at once. */
export class Session {
  constructor(settings: SessionSettings, handlers: SessionHandlers);
  /** True if a frame should be sent: connected, and the ones before it don't pile up. */
  get ready(): boolean;
  /** How frames are sent: as video, or (null) as images. Known once connected. */
  get codec(): "h264" | null;
  /** True if every frame sent has met its end. */
  get settled(): boolean;
  /**
   * Sends one encoded image, or one frame of a `Film`; its result comes with `frame`. Returns false, and sends nothing, if the
   * connection is lost or frames go otherwise.
   */
  send(image: Blob | ArrayBuffer, frame?: ImageBitmap | null): boolean;
  /** Changes settings from the next frame on. */
  configure(changes: Wishes): void;
  /** Connects again if the server closed the connection because nothing was sent. */
  wake(): void;
  /** Connects at once if the session waits for its next attempt. */
  retryNow(): void;
  /** Ends the session. No handler is called afterwards. */
  close(): void;
}

export interface LiveSettings extends Omit<SessionSettings, "codec"> {
  /** Absent: H.264 where the browser encodes it and the server takes it. */
  codec?: "h264" | "jpeg";
  /** Frames are sent mirrored. */
  mirror?: boolean;
  /** Results come with the frames that they are of. */
  keepFrames?: boolean;
  /** The video stands still until there is room for the next frame: no frame of a file is left out. */
  everyFrame?: boolean;
}

export interface LiveHandlers extends Omit<SessionHandlers, "keyframe"> {
  /** A frame was sent. */
  sent?(bytes: number): void;
  /** Frames that were never sent, since the ones before them were on their way. */
  skipped?(frames: number): void;
  /** Nothing more is sent. */
  broke?(error: unknown): void;
}

/** Sends what a video element shows: a webcam, a file, a screen. Begins at once. */
export class Live {
  constructor(video: HTMLVideoElement, settings: LiveSettings, handlers: LiveHandlers);
  mirror: boolean;
  keepFrames: boolean;
  /** The video stands still. */
  paused: boolean;
  /** How frames are sent. */
  get codec(): "h264" | "jpeg";
  configure(changes: Wishes): void;
  retryNow(): void;
  /** Ends it. No handler is called afterwards; the video plays on. */
  close(): void;
}

/** Frames as video, for a session whose `codec` is `h264`. */
export class Film {
  /** With `whole` no frame is left out, even where bits are short. */
  constructor(options?: { whole?: boolean });
  /** The next frame builds on no other: after `connected` and `keyframe`. */
  restart(): void;
  /** At most so many bits a second, for a while: after a `hint`. */
  limit(bitrate: number): void;
  /** Of a canvas with an even width and height: what to send, or null if the encoder leaves the frame out. */
  encode(canvas: HTMLCanvasElement | OffscreenCanvas): Promise<ArrayBuffer | null>;
  close(): void;
}

/** Whether this browser encodes H.264. Only on pages that came by HTTPS, or from this machine. */
export function canFilm(): Promise<boolean>;

/** As `/v1/models` tells skeletons. */
export interface Skeleton {
  name: string;
  keypoints: { name: string; part?: string; side?: string; sigma?: number }[];
  /** Pairs of joints that are joined. */
  limbs: [string, string][];
}

/** The skeleton of events that name none. */
export const COCO: Skeleton;

/**
 * Draws the persons of a pose event onto all of a canvas, as the server draws them: what is on it stays below them. Joints
 * whose score is less than `minScore` (0.3) are left out. Events that name a skeleton need it.
 */
export function drawPoses(
  context: CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D,
  event: Pick<PoseEvent, "width" | "height" | "persons">,
  options?: { skeleton?: Skeleton; minScore?: number },
): void;

/** A size scaled down, where need be, to a longer side and a number of pixels. */
export function fit(width: number, height: number, longerSide: number, pixels?: number): { width: number; height: number };

/** The address of the WebSocket of a server. `parameters` that are null or absent are left out. */
export function streamUrl(server: string | URL, parameters: Record<string, unknown>): string;

/** The protocols of a WebSocket with a key, or without one if it is null. */
export function protocols(key: string | null): string[];

/** The headers of a request with a key. */
export function authorization(key: string | null): Record<string, string>;

/** Wait before attempt `n` (from 0), in milliseconds. `random` is in 0..1. */
export function backoff(n: number, random: number): number;

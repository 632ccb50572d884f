"""Cameras that speak RTSP: GStreamer's server, run by the system's Python, which has GStreamer's bindings.

    /usr/bin/python3 rtsp.py CLIP.mp4 [PORT]

Serves on 127.0.0.1: /h264 shows the clip over and over, /jpeg and /vp8 show a test picture, /sound has nothing to see. On
another port /guarded shows the clip to who says joe:hunter2 by digest.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtsp, GstRtspServer  # noqa: E402, F401

FPS = 30
TEST_PICTURE = "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=15/1"


def access_units(clip):
    """Those of an MP4, and what their stream is."""
    pipeline = Gst.parse_launch(f'filesrc location="{clip}" ! qtdemux ! video/x-h264 ! appsink name=sink sync=false')
    pipeline.set_state(Gst.State.PLAYING)
    sink, units, caps = pipeline.get_by_name("sink"), [], None
    while sample := sink.pull_sample():
        buffer, caps = sample.get_buffer(), sample.get_caps()
        units.append((buffer.extract_dup(0, buffer.get_size()), buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)))
    pipeline.set_state(Gst.State.NULL)
    return units, caps


def live(source, units, caps):
    """Pushes them into `source`, one after the other, when they are asked for."""
    source.set_property("caps", caps)
    source.set_property("format", Gst.Format.TIME)
    shown = 0

    def push(source, _):
        nonlocal shown
        data, is_delta = units[shown % len(units)]
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = buffer.dts = shown * Gst.SECOND // FPS
        buffer.duration = Gst.SECOND // FPS
        if is_delta:
            buffer.set_flags(Gst.BufferFlags.DELTA_UNIT)
        shown += 1
        source.emit("push-buffer", buffer)

    source.connect("need-data", push)


def serve(port, mounts, auth=None):
    """Serves what each path names: a pipeline, and perhaps what to do with its source. Answers the port."""
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    for path, (launch, configure) in mounts.items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(f"( {launch} name=pay0 )")
        factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP)
        if configure:
            factory.connect("media-configure", configured, configure)
        if auth:
            role = "joe, media.factory.access=true, media.factory.construct=true"
            factory.add_role_from_structure(Gst.Structure.new_from_string(role))
        server.get_mount_points().add_factory(path, factory)
    if auth:
        server.set_auth(auth)
    server.attach(None)
    return server, server.get_bound_port()


def configured(_factory, media, configure):
    configure(media.get_element().get_by_name("source"))


def digest():
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "joe")
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest("joe", "hunter2", token)
    return auth


def main(clip, port="0"):
    Gst.init(None)
    units, caps = access_units(clip)
    h264 = "appsrc name=source is-live=true ! rtph264pay pt=96 config-interval=-1"
    shown = (h264, lambda source: live(source, units, caps))
    _open, at = serve(port, {
        "/h264": shown,
        "/jpeg": (f"{TEST_PICTURE} ! jpegenc ! rtpjpegpay pt=26", None),
        "/vp8": (f"{TEST_PICTURE} ! vp8enc deadline=1 ! rtpvp8pay pt=96", None),
        "/sound": ("audiotestsrc is-live=true ! mulawenc ! rtppcmupay pt=0", None),
    })
    _guarded, guarded_at = serve("0", {"/guarded": shown}, digest())
    print(f"serving RTSP on {at}, guarded on {guarded_at}", file=sys.stderr, flush=True)
    GLib.MainLoop().run()


main(*sys.argv[1:])

"""From a video file to upright RGB frames with square pixels, each with its own time.

In: the path of a file on this machine. Out: `pipeline.records.Frame`, in order, and what had to be done about the file
(`pipeline.video.source.Note`). Open `opening.py` first: it shows the whole way.

    opening      opens a file: checks it, reads its packets, chooses the stream and the backend
    source       what every backend offers (`VideoSource`), and what is known of a video (`VideoInfo`)
    container    FFmpeg's view of the file: opening it, choosing one of its video streams
    packets      one pass over the packets, without their pixels
    timeline     times: joints that are bridged, streams without time stamps, the last frame's length
    geometry     display matrix, pixel aspect, pictures of other sizes
    light        interlaced and HDR material
    sampling     which frames are analysed
    backends/    PyAV and decord
    segments     a long video in segments that are decoded apart from each other
    decoder_process, child_process    decoding in a process that may crash
"""

"""WebRTC: audio as RTP, events over a data channel. On aiortc, which only the extra `webrtc` installs."""

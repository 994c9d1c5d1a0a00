"""Yanyun-3: one vision-language agent that plays across different interfaces."""

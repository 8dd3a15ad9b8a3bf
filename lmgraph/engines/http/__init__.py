"""What engines behind HTTP share: one door to aiohttp, deadlines, retries, and a choice among servers."""

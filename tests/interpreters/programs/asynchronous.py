import asyncio
order = []
async def work(name, delay, queue):
    for i in range(3):
        await asyncio.sleep(delay)
        await queue.put((name, i))
        order.append(name)
async def fail():
    await asyncio.sleep(0)
    raise ValueError("failed")
async def numbers(n):
    for i in range(n):
        yield i
        await asyncio.sleep(0)
class Manager:
    async def __aenter__(self): order.append("enter"); return self
    async def __aexit__(self, *_): order.append("exit")
async def main():
    queue = asyncio.Queue()
    async with Manager(), asyncio.TaskGroup() as group:
        group.create_task(work("a", 0.02, queue))
        group.create_task(work("b", 0.05, queue))
    print(order, queue.qsize(), sorted([queue.get_nowait() for _ in range(6)]))
    print(await asyncio.gather(fail(), asyncio.sleep(0, "fine"), return_exceptions=True))
    try:
        async with asyncio.timeout(0.01): await asyncio.sleep(10)
    except TimeoutError: print("TimeoutError")
    print([i async for i in numbers(4) if i % 2], await asyncio.wait_for(asyncio.sleep(0, 5), 1))
    task = asyncio.create_task(asyncio.sleep(10))
    await asyncio.sleep(0)
    task.cancel()
    try: await task
    except asyncio.CancelledError: print("cancelled", task.cancelled())
    lock, event, sem = asyncio.Lock(), asyncio.Event(), asyncio.Semaphore(2)
    async def waiter(n):
        await event.wait()
        async with sem, lock: return n * 2
    tasks = [asyncio.create_task(waiter(n)) for n in range(5)]
    event.set()
    print(await asyncio.gather(*tasks))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail()); group.create_task(fail())
    except* ValueError as problems: print(len(problems.exceptions))
asyncio.run(main())

//! Channels bounded in bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::{Semaphore, mpsc};

/// The cost of a message in the queue, in bytes. Control messages cost nothing, so only the
/// messages before them can delay them.
pub(super) trait Weight {
    /// Bytes held while the message waits.
    fn weight(&self) -> usize;
}

/// A channel that holds at most `capacity_bytes`. A larger message passes alone. `waiting` is the
/// number of bytes in all queues that share it.
pub(super) fn bounded<T: Weight>(
    capacity_bytes: usize,
    waiting: Arc<AtomicU64>,
) -> (Sender<T>, Receiver<T>) {
    let capacity = capacity_bytes.clamp(1, u32::MAX as usize) as u32;
    let (queue, receiver) = mpsc::unbounded_channel();
    let space = Arc::new(Semaphore::new(capacity as usize));
    let sender = Sender {
        queue,
        space: Arc::clone(&space),
        capacity,
        waiting: Arc::clone(&waiting),
    };
    (
        sender,
        Receiver {
            queue: receiver,
            space,
            waiting,
        },
    )
}

/// The sending half.
pub(super) struct Sender<T> {
    queue: mpsc::UnboundedSender<(T, u32)>,
    space: Arc<Semaphore>,
    capacity: u32,
    waiting: Arc<AtomicU64>,
}

/// The receiver was dropped: the job is ending.
#[derive(Debug)]
pub(super) struct Closed;

impl<T: Weight> Sender<T> {
    /// Waits for space, then sends.
    pub(super) async fn send(&self, message: T) -> Result<(), Closed> {
        let weight = u32::try_from(message.weight())
            .unwrap_or(u32::MAX)
            .min(self.capacity);
        if weight > 0 {
            let space = self.space.acquire_many(weight).await.map_err(|_| Closed)?;
            space.forget();
            self.waiting.fetch_add(u64::from(weight), Ordering::Relaxed);
        }
        self.queue.send((message, weight)).map_err(|_| Closed)
    }

    /// Whether a message with a weight would have to wait now.
    pub(super) fn is_full(&self) -> bool {
        self.space.available_permits() == 0
    }
}

/// The receiving half.
pub(super) struct Receiver<T> {
    queue: mpsc::UnboundedReceiver<(T, u32)>,
    space: Arc<Semaphore>,
    waiting: Arc<AtomicU64>,
}

impl<T> Receiver<T> {
    /// The next message; `None` once all senders are dropped.
    pub(super) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.queue.poll_recv(context).map(|received| {
            let (message, weight) = received?;
            self.space.add_permits(weight as usize);
            self.waiting.fetch_sub(u64::from(weight), Ordering::Relaxed);
            Some(message)
        })
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.space.close();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    struct Message(usize);

    impl Weight for Message {
        fn weight(&self) -> usize {
            self.0
        }
    }

    #[tokio::test]
    async fn a_full_channel_waits_and_a_large_message_passes_alone() {
        let waiting = Arc::new(AtomicU64::new(0));
        let (sender, mut receiver) = bounded(10, Arc::clone(&waiting));
        sender.send(Message(6)).await.unwrap();
        sender.send(Message(0)).await.unwrap();
        let large = tokio::spawn(async move { sender.send(Message(1000)).await });
        tokio::task::yield_now().await;
        assert_eq!(waiting.load(Ordering::Relaxed), 6);
        for expected in [6, 0, 1000] {
            let message = poll_fn(|context| receiver.poll_recv(context)).await;
            assert_eq!(message.map(|message| message.0), Some(expected));
        }
        large.await.unwrap().unwrap();
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_dropped_receiver_wakes_the_sender() {
        let (sender, receiver) = bounded(1, Arc::default());
        sender.send(Message(1)).await.unwrap();
        let blocked = tokio::spawn(async move { sender.send(Message(1)).await.is_err() });
        tokio::task::yield_now().await;
        drop(receiver);
        assert!(blocked.await.unwrap());
    }
}
